"""Which way is taken to a host: paramiko, or the `ssh` program."""

import pytest
from sshd import USER
from ways import COMMAND, SOON_S, certified, chosen, without_ssh

from blockdiff.errors import HostRefused, ProgramMissing
from blockdiff.transport.destination import Destination, parse_host_argument
from blockdiff.transport.openssh import OpenSshTransport
from blockdiff.transport.paramiko import transport
from blockdiff.transport.paramiko import transport as paramiko_way
from blockdiff.transport.paramiko.transport import ParamikoTransport
from blockdiff.transport.sshconfig import NotHonoured


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


def test_paramiko_is_the_default(ssh_lab, sshd):
    assert chosen(ssh_lab) is ParamikoTransport


def test_rsh_is_obeyed(ssh_lab, sshd):
    assert chosen(ssh_lab, rsh=ssh_lab.rsh) is OpenSshTransport


def test_options_of_ssh_go_to_ssh(ssh_lab, sshd):
    text = f"-p {sshd.port} -i {ssh_lab.key} {USER}@127.0.0.1 -o UserKnownHostsFile={ssh_lab.known_hosts}"
    assert chosen(ssh_lab, parse_host_argument(text)) is OpenSshTransport


def test_an_authority_for_host_keys_goes_to_ssh(ssh_lab):
    certified(ssh_lab)
    assert chosen(ssh_lab) is OpenSshTransport
    with pytest.raises(NotHonoured, match="@cert-authority"):
        paramiko_way.connect(Destination("source"), COMMAND, settings=ssh_lab.settings, timeout_s=SOON_S)


@pytest.mark.parametrize(
    "line, name",
    [
        ("KnownHostsCommand /bin/true", "KnownHostsCommand"),
        ("RevokedHostKeys /dev/null", "RevokedHostKeys"),
        ("Ciphers chacha20-poly1305@openssh.com", "ciphers"),
        ("BindInterface lo", "BindInterface"),
        ("ProxyCommand nc %h %p # %T", "%T"),
    ],
)
def test_what_paramiko_cannot_honour_is_named(ssh_lab, line, name):
    ssh_lab.server(extra=[line])
    with pytest.raises(NotHonoured, match=name):
        paramiko_way.connect(Destination("source"), COMMAND, settings=ssh_lab.settings, timeout_s=SOON_S)
    if line.startswith(("Ciphers", "KnownHosts", "RevokedHostKeys")):
        assert chosen(ssh_lab) is OpenSshTransport


def test_without_the_ssh_program_plain_configurations_still_work(ssh_lab, sshd):
    without_ssh(ssh_lab)
    assert chosen(ssh_lab) is ParamikoTransport


@pytest.mark.parametrize("what", ["@cert-authority", "Include", "Match"])
def test_without_the_ssh_program_what_needs_it_is_named(ssh_lab, what):
    certified(ssh_lab)
    if what == "Include":
        ssh_lab.config.write_text(f"Include {ssh_lab.config}\n{ssh_lab.config.read_text()}")
    elif what == "Match":
        ssh_lab.config.write_text(f"Match exec true\nUser x\n{ssh_lab.config.read_text()}")
    without_ssh(ssh_lab)
    with pytest.raises(ProgramMissing) as caught:
        chosen(ssh_lab)
    assert what in str(caught.value)
    assert "ssh" in str(caught.value)
