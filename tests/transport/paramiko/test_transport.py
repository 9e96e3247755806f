"""A command on a host: its streams, its end, and the jump hosts on the way."""

import os
import shutil

import pytest
from sshd import SHELL, USER, sudo_user
from transports import Contract
from ways import COMMAND, SOON_S, WELL

from blockdiff.errors import HostRefused, HostUnreachable
from blockdiff.transport.destination import Destination
from blockdiff.transport.paramiko import transport as paramiko_way


@pytest.mark.skipif(not SHELL.endswith("bash"), reason=f"{SHELL} reads no .bashrc")
def test_a_banner_and_a_noisy_bashrc_do_not_hide_the_command(run, ssh_lab):
    banner = ssh_lab.folder / "banner"
    banner.write_text("Authorised\033[2J use only\n")
    ssh_lab.server(bashrc="echo Welcome; echo to stderr >&2\n", options=[f"Banner {banner}"])
    output, status, said = run()
    assert output.endswith(b"agent\n")
    assert b"Welcome\n" in output
    assert b"Authorised" not in output
    assert status == 7
    assert "to stderr" in said
    assert "\033" not in said


def test_a_path_without_python(run, ssh_lab):
    ssh_lab.server(path="/nonexistent")
    output, status, _ = run("exec python3 -c 'print(1)'; exit 97")
    assert output == b""
    assert status in (97, 126, 127)


def test_a_command_that_the_host_replaces(run, ssh_lab):
    ssh_lab.server(options=["ForceCommand echo only this"])
    assert run()[0] == b"only this\n"


def test_a_connection_that_is_cut(run, ssh_lab, sshd):
    transport = run.open(Destination("source"), "echo begun; exec cat")
    try:
        assert transport.read(100) == b"begun\n"
        sshd.cut()
        with pytest.raises(OSError):
            while transport.read(100):
                pass
            raise AssertionError("the cut looks like the end of the stream")
        assert transport.wait(SOON_S) is None
        with pytest.raises(OSError):
            for _ in range(1000):
                transport.write(bytes(64 * 1024))
    finally:
        transport.close()


def test_jump_hosts_with_a_configuration_and_keys_of_their_own(run, ssh_lab):
    ssh_lab.server("outer")
    ssh_lab.server("inner")
    ssh_lab.server("source", extra=["ProxyJump outer,inner"])
    assert run("echo $SSH_CONNECTION; exit 7")[1] == 7
    assert [server.log.read_text().count("Accepted publickey") for server in ssh_lab.servers] == [1, 1, 1]


def test_a_jump_host_behind_a_jump_host(run, ssh_lab):
    ssh_lab.server("outer")
    ssh_lab.server("inner", extra=["ProxyJump outer"])
    ssh_lab.server("source", extra=[f"ProxyJump {USER}@inner"])
    assert run()[:2] == WELL


def test_a_jump_host_that_is_not_known_is_refused(run, ssh_lab):
    jump = ssh_lab.server("jump", known=False)
    source = ssh_lab.server("source", extra=["ProxyJump jump"])
    with pytest.raises((HostRefused, HostUnreachable)) as caught:
        run()
    assert "Accepted" not in jump.log.read_text() + source.log.read_text()
    if run.name == "paramiko":
        assert isinstance(caught.value, HostRefused)
        assert "jump" in str(caught.value)


def test_a_jump_host_cannot_reach_the_host(run, ssh_lab):
    ssh_lab.server("jump")
    ssh_lab.server("source", extra=["ProxyJump jump"]).stop()
    with pytest.raises(HostUnreachable):
        run()


def test_jump_hosts_in_a_loop(ssh_lab):
    ssh_lab.server("a", extra=["ProxyJump b"])
    ssh_lab.server("b", extra=["ProxyJump a"])
    with pytest.raises(HostUnreachable) as caught:
        paramiko_way.connect(Destination("a"), COMMAND, settings=ssh_lab.settings, timeout_s=SOON_S)
    assert "loop" in str(caught.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a user")
@pytest.mark.skipif(shutil.which("sudo") is None, reason="sudo is missing")
def test_a_user_with_sudo(run, ssh_lab):
    ssh_lab.server()
    with sudo_user() as name:
        output, status, _ = run("id -un; sudo -n id -un", user=name)
        assert (output.decode().split(), status) == ([name, "root"], 0)


class TestParamiko(Contract):
    @pytest.fixture
    def begin(self, sshd, ssh_lab):
        def begin(command, **options):
            settings = ssh_lab.settings
            return paramiko_way.connect(Destination("source"), command, settings=settings, timeout_s=SOON_S, **options)

        return begin
