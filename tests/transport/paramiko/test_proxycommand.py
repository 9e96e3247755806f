"""A ProxyCommand as the way to a host."""

import os
import socket

import pytest
from ways import WELL

from blockdiff.errors import CommandFailed, HostUnreachable
from blockdiff.transport.paramiko.proxycommand import ProxyCommand


def test_a_proxy_command(run, ssh_lab):
    server = ssh_lab.server("jump")
    source = ssh_lab.server("source", extra=[f"ProxyCommand ssh -F {ssh_lab.config} -W [%h]:%p jump"])
    assert run()[:2] == WELL
    assert "Accepted publickey" in server.log.read_text()
    assert "Accepted publickey" in source.log.read_text()


def test_a_proxy_command_that_fails(run, ssh_lab):
    ssh_lab.server("source", extra=["ProxyCommand echo no way to %h >&2; exit 1"])
    with pytest.raises(HostUnreachable) as caught:
        run()
    if run.name == "paramiko":
        assert "no way to 127.0.0.1" in str(caught.value)


def test_its_last_lines_and_its_end():
    proxy = ProxyCommand("sh -c 'echo no way >&2; cat'", {"PATH": os.environ["PATH"]})
    proxy.socket.sendall(b"abc")
    assert proxy.socket.recv(10) == b"abc"
    proxy.socket.shutdown(socket.SHUT_WR)
    assert proxy.last_lines() == "no way"
    proxy.close()
    assert proxy.socket.fileno() == -1


def test_a_shell_that_does_not_exist():
    with pytest.raises(CommandFailed, match="ProxyCommand true"):
        ProxyCommand("true", {"SHELL": "/nonexistent/sh"})
