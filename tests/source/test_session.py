"""A conversation with an agent, phase by phase; whatever is said at the wrong moment is an error of its host."""

import pytest
from hostile import FIRST, HONEST, LEFT, Played, hello, opened, put_together, raw, talk

from blockdiff.errors import AgentDied, NoSuchVolume, ProtocolBroken
from blockdiff.source.opened import Opened
from blockdiff.source.prepared import Prepared
from blockdiff.source.session import Session
from blockdiff.wire import messages
from blockdiff.wire.request import Request

REQUEST = Request("/vol\x1b", 100, "xxh128", 5)
READY = talk(messages.READY, size=len(FIRST), kind="lvm-thick", lv_uuid="x", same=True, room=None)
SNAPSHOT = {"name": "vg/s", "size": 4096, "fill": 1.5}
OPENED = opened(len(FIRST), kind="lvm-thick", lv_uuid="x", snapshot=SNAPSHOT, holds=True)


def session(*spoken, **how):
    return Session(Played(put_together([hello(), *spoken]), **how), 5.0)


def test_a_file_is_open_at_once():
    with session(*HONEST[1][1:]) as it:
        assert it.hello.host == "db00"
        assert it.ask(REQUEST) == Opened(len(FIRST), "file", same=True)
        assert not it.from_snapshot
        assert it.volume.isprintable()
        assert it.receive()[0] == messages.EXTENT


def test_a_logical_volume_waits_for_the_moment():
    watched = []
    with session(READY, talk(messages.TAKEN), OPENED, endless=raw(messages.PING)) as it:
        assert isinstance(it.ask(REQUEST), Prepared)
        assert it.from_snapshot
        it.now(None)
        it.taken(lambda: watched.append(True))
        assert it.opened(100).snapshot == SNAPSHOT


@pytest.mark.parametrize("report, error, message", [
    (("NoSuchVolume", ["/vol", "gone"]), NoSuchVolume, "no such volume: /vol: gone"),
    (("AgentDied", ["its own name", "killed"]), AgentDied, "the agent on localhost died: killed"),
    (("KeyError", ["a", "b"]), ProtocolBroken, "reports KeyError"), (("NoSuchVolume", ["a"]), ProtocolBroken, "reports"),
])  # fmt: skip
def test_a_report_is_the_error_that_it_names(report, error, message):
    with session(talk(messages.FAILED, error=report[0], args=report[1])) as it:
        it.about = "db from db00"
        with pytest.raises(error, match=message) as found:
            it.ask(REQUEST)
        assert found.value.about == "db from db00"


@pytest.mark.parametrize("spoken, status, lines", [
    ([LEFT], 0, 0), ([LEFT], 7, 1), ([talk(messages.LEFT, remains="vg/s is still there")], 0, 1), ([HONEST[1][2]], 0, 1),
    ([], 0, 1),
])  # fmt: skip
def test_the_end_is_told_only_if_somebody_should_know(spoken, status, lines):
    with session(HONEST[1][1], *spoken, status=status) as it:
        it.ask(REQUEST)
        assert len(it.finish()) == lines
