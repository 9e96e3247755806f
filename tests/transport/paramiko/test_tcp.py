"""The way to a host's port, by both ways."""

import pytest

from blockdiff.errors import HostUnreachable


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
