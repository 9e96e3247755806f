"""A command on this machine: the suite of all transports, and what is true of this one alone."""

import os
import signal

import pytest
from threads import in_thread
from transports import SOON_S, Contract, read_all

from blockdiff.errors import CommandFailed, ProgramMissing
from blockdiff.transport.local import LocalTransport


class TestLocal(Contract):
    @pytest.fixture
    def begin(self):
        return lambda command, **options: LocalTransport(["/bin/sh", "-c", command], **options)

    def test_a_program_that_is_not_there(self):
        with pytest.raises(ProgramMissing):
            LocalTransport(["/nonexistent/program"])

    def test_a_file_that_is_no_program(self, tmp_path):
        (tmp_path / "x").write_text("")
        with pytest.raises(CommandFailed):
            LocalTransport([str(tmp_path / "x")])

    def test_has_a_session_of_its_own(self, start):
        transport = start("cut -d' ' -f1,6 /proc/self/stat; echo $$")
        (_, session), (leader,) = (line.split() for line in read_all(transport).splitlines())
        assert session == leader
        assert int(session) != os.getsid(0)

    def test_a_child_that_holds_the_pipes_does_not_hold_us(self, start):
        transport = start("sleep 600 & echo $!")
        child = int(transport.read(100))
        try:
            thread, outcome = in_thread(lambda: transport.read(1))
            assert transport.wait(SOON_S) == 0
            transport.close()
            thread.join(SOON_S)
            assert isinstance(outcome[0], OSError)
        finally:
            os.kill(child, signal.SIGKILL)

    def test_what_does_not_hear_is_killed(self, monkeypatch, start):
        monkeypatch.setattr("blockdiff.transport.local.GRACE_S", 0.3)
        transport = start("trap '' TERM HUP; echo; while :; do sleep 0.1; done")
        assert transport.read(1) == b"\n"
        transport.close()
        assert transport.wait(SOON_S) == -signal.SIGKILL
