"""A real supervisor, forked and asked; without a snapshot, which needs LVM: see tests/lab/test_supervisor.py."""

import os
import signal
import time

import pytest

from agent.errors import AgentError
from agent.snapshots import client


@pytest.fixture
def supervised():
    made = client.SupervisorClient(30.0, [].append)
    yield made
    made.remove()


def test_a_supervisor_without_a_snapshot_answers_and_ends(supervised):
    assert supervised.beat() is None and supervised.check() is None and supervised.name is None
    assert os.getsid(supervised._pid) == supervised._pid
    assert supervised.remove() is None
    with pytest.raises(ProcessLookupError):
        os.kill(supervised._pid, 0)


def test_it_holds_nothing_open_but_its_channel():
    reading, writing = os.pipe()
    supervised = client.SupervisorClient(30.0, [].append)
    try:
        supervised.beat()
        found = {name: os.readlink(f"/proc/{supervised._pid}/fd/{name}") for name in os.listdir(f"/proc/{supervised._pid}/fd")}
        assert {found.pop(name) for name in ("0", "1", "2")} == {"/dev/null"}
        (channel,) = found.values()
        assert channel.startswith("socket:")
    finally:
        supervised.remove()
        os.close(reading)
        os.close(writing)


def test_a_supervisor_that_was_killed_is_noticed(supervised):
    os.kill(supervised._pid, signal.SIGKILL)
    with pytest.raises(AgentError, match="the process that owns the snapshot has failed") as died:
        for _ in range(1000):
            supervised.beat()
            time.sleep(0.01)
    assert died.value.error == "AgentDied"
    assert supervised.remove() is None


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGPIPE])
def test_what_ends_a_reader_does_not_end_its_supervisor(supervised, number):
    os.kill(supervised._pid, number)
    assert supervised.beat() is None
