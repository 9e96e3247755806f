from sshd import ssh_lab, sshd
from ways import run

__all__ = ["run", "ssh_lab", "sshd"]
