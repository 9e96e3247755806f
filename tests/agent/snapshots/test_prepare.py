"""What is no logical volume is read itself, or refused; the rest needs LVM: tests/lab/test_lvm.py."""

import os

import pytest
from reports import report

from agent.errors import AgentError
from agent.snapshots import prepare
from blockdiff.wire.request import SnapshotRequest

MAY_BE = SnapshotRequest(None, "set", "run", must=False, verbose=False)


@pytest.fixture
def path(tmp_path):
    (tmp_path / "vol").write_bytes(b"x")
    return os.fsencode(tmp_path / "vol")


def test_a_file_is_read_itself_and_nothing_is_swept(lvs, path):
    lvs("never asked", code=5)
    notes = []
    assert prepare.prepare(path, MAY_BE, 30.0, lambda: 0.0, notes.append) is None
    assert prepare.look(path, MAY_BE, notes.append) is None
    assert notes == []


def test_a_file_is_refused_where_a_snapshot_must_be(path):
    for prepared in (
        lambda wanted: prepare.prepare(path, wanted, 30.0, lambda: 0.0, [].append),
        lambda wanted: prepare.look(path, wanted, [].append),
    ):
        with pytest.raises(AgentError, match="it is not a logical volume") as refused:
            prepared(MAY_BE._replace(must=True))
        assert refused.value.error == "NoSuchVolume"


def test_the_notes_of_a_last_sweep_are_passed_on(lvs):
    notes = []
    lvs(report())
    prepare.clear("feed", notes.append)
    assert notes == []
    lvs("no report today", code=5)
    prepare.clear("feed", notes.append)
    assert notes[-1] == "cannot look for old snapshots: lvs: no report today"
