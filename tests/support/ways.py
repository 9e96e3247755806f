"""Both ways to a host, against a real sshd: run a command by one of them, or by the one that `connect` chooses."""

import shutil
import subprocess

import pytest
from sshd import keygen
from threads import in_thread

from blockdiff.transport.choose import connect
from blockdiff.transport.destination import Destination
from blockdiff.transport.openssh import OpenSshTransport
from blockdiff.transport.paramiko import transport as paramiko_way

SOON_S = 20.0

MIB = 1024 * 1024

COMMAND = "echo agent; exit 7"


@pytest.fixture(params=["paramiko", "openssh"])
def run(request, ssh_lab):
    """Run a command by one transport and return its output, status and stderr."""

    def run(command=COMMAND, host="source", user=None, timeout_s=SOON_S):
        transport = open_transport(Destination(host, user), command, timeout_s)
        try:
            output = b""
            while piece := transport.read(MIB):
                output += piece
            return output, transport.wait(SOON_S), transport.diagnostics()
        finally:
            transport.close()
            transport.wait(SOON_S)

    def open_transport(destination, command, timeout_s=SOON_S):
        options = {"settings": ssh_lab.settings, "timeout_s": timeout_s}
        if request.param == "paramiko":
            return paramiko_way.connect(destination, command, **options)
        return OpenSshTransport(destination, command, rsh=ssh_lab.rsh, **options)

    run.open = open_transport
    run.name = request.param
    return run


WELL = b"agent\n", 7


def open_in_thread(run, host, timeout_s=2):
    """Begin to run a command on a host that must fail; return how to wait for its error."""
    thread, outcome = in_thread(lambda: run(host=host, timeout_s=timeout_s))

    def wait():
        thread.join(SOON_S)
        return outcome[0]

    return wait


def chosen(ssh_lab, destination="source", **options):
    """Return which transport `connect` takes, after its command has run well."""
    if isinstance(destination, str):
        destination = Destination(destination)
    transport = connect(destination, COMMAND, settings=ssh_lab.settings, timeout_s=SOON_S, **options)
    try:
        assert transport.read(100) == b"agent\n"
        assert transport.wait(SOON_S) == 7
        return type(transport)
    finally:
        transport.close()
        transport.wait(SOON_S)


def certified(ssh_lab):
    """Give a server a host key with a certificate, and only its authority to the client."""
    authority = keygen(ssh_lab.folder / "authority")
    key = keygen(ssh_lab.folder / "certified")
    subprocess.run(
        ["ssh-keygen", "-q", "-s", authority, "-I", "host", "-h", "-n", "127.0.0.1", f"{key}.pub"],
        check=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    server = ssh_lab.server(known=False, options=[f"HostKey {key}", f"HostCertificate {key}-cert.pub"])
    ssh_lab.know(server, "@cert-authority", authority)
    return server


def without_ssh(ssh_lab):
    """Let the client's PATH have no ssh program."""
    folder = ssh_lab.folder / "bin"
    folder.mkdir()
    (folder / "sh").symlink_to(shutil.which("sh"))
    ssh_lab.environment["PATH"] = str(folder)
