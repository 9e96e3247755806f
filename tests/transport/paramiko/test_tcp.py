"""The way to a host's port, by both ways."""

import socket

import pytest
from sshd import free_port

from blockdiff.errors import HostUnreachable
from blockdiff.transport.paramiko import tcp
from blockdiff.transport.sshconfig import resolve


def test_a_host_that_is_down(run, ssh_lab):
    ssh_lab.server().stop()
    with pytest.raises(HostUnreachable) as caught:
        run()
    assert caught.value.exit_code == 20
    assert "refused" in str(caught.value)


def test_a_host_without_a_name(run, ssh_lab):
    with pytest.raises(HostUnreachable) as caught:
        run(host="no-such-host.invalid")
    assert "no-such-host.invalid" in str(caught.value)


def test_every_address_that_does_not_answer_is_named(ssh_lab):
    port = free_port()
    ssh_lab.configure("down", "HostName 127.0.0.1", f"Port {port}")
    with pytest.raises(HostUnreachable, match=f"127.0.0.1 port {port}: Connection refused"):
        tcp.connect(resolve("down", ssh_lab.settings), 5)


def test_the_own_address_of_the_configuration_is_used(ssh_lab):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ssh_lab.configure("near", "HostName 127.0.0.1", f"Port {listener.getsockname()[1]}", "BindAddress 127.0.0.9")
        with tcp.connect(resolve("near", ssh_lab.settings), 5) as stream:
            assert stream.getsockname()[0] == "127.0.0.9"
