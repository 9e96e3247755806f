"""A ProxyCommand as the way to a host."""

import pytest
from ways import WELL

from blockdiff.errors import HostUnreachable


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
