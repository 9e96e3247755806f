from sshd import ssh_lab, sshd

__all__ = ["ssh_lab", "sshd"]
