"""What paramiko shows a host, and what it leaves to the `ssh` program, side by side with it."""

import contextlib
import socket
import struct
import subprocess

import pytest
from sshd import USER, keygen, public
from test_sshd import COMMAND, SOON_S, chosen, without_ssh
from threads import in_thread

from blockdiff.errors import HostRefused, HostUnreachable, ProgramMissing
from blockdiff.transport.destination import Destination
from blockdiff.transport.openssh import OpenSshTransport
from blockdiff.transport.paramiko import transport
from blockdiff.transport.paramiko.transport import ParamikoTransport
from blockdiff.transport.sshconfig import NotHonoured

LISTS = {  # PubkeyAcceptedAlgorithms -> the key of three that the server gets to see first, as real ssh shows it
    "ssh-ed25519": "ED25519",
    "ssh-rsa,ecdsa*": "ECDSA",
    "-rsa*": "ED25519",
    "-ssh-ed25519,rsa*": "ED25519-CERT",
    "+ssh-rsa": "RSA",
    "^ssh-ed25519": "RSA",
    "rsa-sha2-256": "RSA",
    "ssh-ed25519-cert-v01@openssh.com": "ED25519-CERT",
    "sk-*": None,
}


def test_only_accepted_kinds_of_keys_are_shown(ssh_lab):
    """By real ssh, by us with its help, and by us without it."""
    keys = [keygen(ssh_lab.folder / kind, "-t", kind) for kind in ("rsa", "ed25519", "ecdsa")]
    subprocess.run(
        ["ssh-keygen", "-q", "-s", ssh_lab.key, "-I", "test", "-n", USER, f"{keys[1]}.pub"],
        check=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    ssh_lab.authorized_keys.write_text("".join(f"{public(key)}\n" for key in keys))
    server = ssh_lab.server(options=[f"TrustedUserCAKeys {ssh_lab.key}.pub"])
    hosts = [f"list{number}" for number in range(len(LISTS))]
    for host, line in zip(hosts, LISTS, strict=True):
        lines = (f"IdentityFile {key}" for key in keys)
        ssh_lab.configure(
            host, "HostName 127.0.0.1", f"Port {server.port}", "IdentitiesOnly yes",
            f"PubkeyAcceptedAlgorithms {line}", *lines,
        )  # fmt: skip

    def shown(host):
        """Return the kind of the key with which paramiko gets in."""
        before = len(server.log.read_text())
        with contextlib.suppress(HostRefused):
            transport.connect(Destination(host), "true", settings=ssh_lab.settings, timeout_s=SOON_S).close()
        return accepted(server.log.read_text()[before:])

    def accepted(log):
        words = log.partition("Accepted publickey")[2].partition("ssh2: ")[2].split()
        return words[0] if words else None

    before = len(server.log.read_text())
    for host in hosts:
        command = ["ssh", "-F", ssh_lab.config, "-o", "BatchMode=yes", host, "true"]
        subprocess.run(command, env=ssh_lab.environment, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    log = server.log.read_text()[before:]
    wanted = [kind for kind in LISTS.values() if kind]
    assert [accepted("Accepted publickey" + part) for part in log.split("Accepted publickey")[1:]] == wanted
    assert dict(zip(LISTS, map(shown, hosts), strict=True)) == LISTS
    without_ssh(ssh_lab)
    assert dict(zip(LISTS, map(shown, hosts), strict=True)) == LISTS


def test_a_key_that_is_not_accepted_is_said_so(ssh_lab):
    ssh_lab.server(extra=["PubkeyAcceptedAlgorithms ecdsa*"])
    with pytest.raises(HostRefused, match="PubkeyAcceptedAlgorithms has no ssh-ed25519"):
        transport.connect(Destination("source"), COMMAND, settings=ssh_lab.settings, timeout_s=SOON_S)


@pytest.mark.parametrize("hash_", ["256", "512"])
def test_an_rsa_key_signs_as_it_may_only(ssh_lab, hash_):
    ssh_lab.key = keygen(ssh_lab.folder / "rsa", "-t", "rsa")
    ssh_lab.authorized_keys.write_text(public(ssh_lab.key))
    ssh_lab.server(
        extra=[f"PubkeyAcceptedAlgorithms rsa-sha2-{hash_}"], options=["PubkeyAcceptedAlgorithms rsa-sha2-512"]
    )
    if hash_ == "512":
        assert chosen(ssh_lab) is ParamikoTransport
    else:
        with pytest.raises(HostRefused):
            chosen(ssh_lab)


def test_a_signature_that_only_ssh_can_make(ssh_lab):
    key = keygen(ssh_lab.folder / "rsa", "-t", "rsa")
    ssh_lab.authorized_keys.write_text(public(key))
    ssh_lab.key = key
    ssh_lab.server(extra=["PubkeyAcceptedAlgorithms ssh-rsa"], options=["PubkeyAcceptedAlgorithms +ssh-rsa"])
    assert chosen(ssh_lab) is OpenSshTransport


@pytest.mark.parametrize(
    "line, name",
    [
        ("Ciphers chacha20-poly1305@openssh.com", "ciphers"),
        ("KexAlgorithms sntrup761x25519-sha512@openssh.com", "kex algorithm"),
        ("MACs umac-128-etm@openssh.com", "macs"),
    ],
)
def test_a_server_that_offers_what_paramiko_lacks_goes_to_ssh(ssh_lab, line, name):
    ssh_lab.server(options=[line])
    assert chosen(ssh_lab) is OpenSshTransport
    without_ssh(ssh_lab)
    with pytest.raises(ProgramMissing, match=f"what source offers: no acceptable {name}"):
        chosen(ssh_lab)


def test_a_jump_host_that_offers_what_paramiko_lacks_goes_to_ssh(ssh_lab):
    ssh_lab.server("jump", options=["Ciphers chacha20-poly1305@openssh.com"])
    ssh_lab.server("source", extra=["ProxyJump jump"])
    assert chosen(ssh_lab) is OpenSshTransport


def test_a_server_that_offers_what_nobody_here_may_use(ssh_lab):
    """Then the ssh program says so, too."""
    ssh_lab.server(options=["Ciphers chacha20-poly1305@openssh.com"], extra=["Ciphers aes256-ctr"])
    with pytest.raises(HostRefused, match="no matching cipher"):
        chosen(ssh_lab)


def test_another_way_in_than_a_key_is_left_to_ssh(ssh_lab):
    ssh_lab.server(extra=["HostbasedAuthentication yes"])
    ssh_lab.authorized_keys.write_text("")
    with pytest.raises(NotHonoured, match="HostbasedAuthentication"):
        transport.connect(Destination("source"), COMMAND, settings=ssh_lab.settings, timeout_s=SOON_S)


def test_a_connection_that_is_reset_is_told_in_words(ssh_lab):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ssh_lab.configure("rude", "HostName 127.0.0.1", f"Port {listener.getsockname()[1]}")
        thread, outcome = in_thread(
            lambda: transport.connect(Destination("rude"), COMMAND, settings=ssh_lab.settings, timeout_s=SOON_S)
        )
        connection, _ = listener.accept()
        connection.recv(1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        thread.join(SOON_S)
    assert isinstance(outcome[0], HostUnreachable)
    assert str(outcome[0]).endswith(": Connection reset by peer")
    assert "Errno" not in str(outcome[0])
