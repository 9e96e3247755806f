"""What a lost run may leave: what of the agent's lines is for a person, and the last look."""

import pytest
from hostile import LEFT, Played, hello, put_together

from blockdiff.source import leftovers
from blockdiff.wire.request import Request, SnapshotRequest

REQUEST = Request("/dev/vg/lv", 4096, "md5", 5, snapshot=SnapshotRequest(None, "set", "this run", False, False))


@pytest.mark.parametrize("line, expected", [
    ("db00: cannot remove vg/s", True), ("db00: vg/s looks like a snapshot of ours", True),
    ("db00: vg/s is left alone", True), ("db00: lvs: WARNING: cannot do it", False), ("cannot: it was removed", False),
])  # fmt: skip
def test_only_what_somebody_has_to_do_something_about_is_for_a_person(line, expected):
    assert leftovers.concerns(line) is expected


def test_the_agent_is_asked_for_the_run_that_ended():
    sent, lines = [], []

    class Asked(Played):
        def write(self, data):
            sent.append(bytes(data))
            super().write(data)

    leftovers.clear(lambda: Asked(put_together([hello(), LEFT])), REQUEST, lines.append)
    assert b'"ended":"this run"' in b"".join(sent)
    assert lines == []


def test_a_host_that_is_gone_is_a_note_and_no_error():
    def connect():
        raise OSError("no route to host")

    lines = []
    leftovers.clear(connect, REQUEST, lines.append)
    assert len(lines) == 1 and "no route to host" in lines[0] and "supervisor" in lines[0]
