"""The errors: what a message is made of, and what no code that goes on after an error may catch."""

import os
import signal

import pytest

from blockdiff.commands import exits
from blockdiff.errors import AgentDied, BlockdiffError, Interrupted, NoSuchSet, RunTooLong
from blockdiff.source import leftovers
from blockdiff.wire.request import Request, SnapshotRequest

REQUEST = Request("/dev/vg/lv", 4096, "md5", 5, snapshot=SnapshotRequest(None, "set", "this run", False, False))


def test_a_message_names_the_thing_and_the_next_step():
    error = NoSuchSet("db")

    assert str(error) == "no such set: db (hint: blockdiff-list FOLDER shows the sets in a folder)"
    assert error.message == "no such set: db"
    assert str(AgentDied("srv", "killed", hint="try again")) == "the agent on srv died: killed (hint: try again)"
    assert str(AgentDied("srv", "killed")) == "the agent on srv died: killed"


def test_the_first_job_that_an_error_is_about_counts():
    error = BlockdiffError("x")
    error.concern("")
    error.concern("db from /dev/vg/db")
    error.concern("other")

    assert error.about == "db from /dev/vg/db"


def test_an_interruption_is_no_error_that_a_run_goes_on_after():
    assert not issubclass(Interrupted, Exception)
    assert issubclass(RunTooLong, Interrupted)
    assert (Interrupted("SIGHUP", 129).exit_code, RunTooLong("5").exit_code) == (129, 28)
    assert str(Interrupted("SIGTERM", 143)) == "interrupted by SIGTERM"


def test_a_signal_during_the_last_look_at_a_source_ends_the_run():
    def connect():
        os.kill(os.getpid(), signal.SIGTERM)
        raise OSError("no connection")

    lines = []
    before = {number: signal.getsignal(number) for number in exits._ENDING}
    signal.signal(signal.SIGTERM, exits._interrupt)
    try:
        with pytest.raises(Interrupted) as caught:
            leftovers.clear(connect, REQUEST, lines.append)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert caught.value.exit_code == 143
    assert not lines
