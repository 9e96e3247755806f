"""A snapshot that is wanted of a volume, up to the moment at which LVM would make it: tests/lab/test_lvm.py goes on."""

import pytest

from agent.errors import AgentError
from agent.snapshots import lvm, volume
from blockdiff.wire.request import SnapshotRequest

WANTED = SnapshotRequest("8M", "set", "run", must=True, verbose=False)
ORIGIN = lvm.Volume("/dev/vg/lv", "vg", "lv", "u", "lvm-thick", 384 << 20, None, 4 << 20, 373, None, None, None, "")


def test_its_plan_is_known_before_it_is_made_and_it_leaves_nothing():
    made = volume.SnapshotVolume(ORIGIN, WANTED, 30.0, lambda: 0.0, [].append, [])
    try:
        assert made.plan == {"size": 384 << 20, "kind": "lvm-thick", "lv_uuid": "u", "room": 8 << 20}
        made.settle()
        assert made.path is None
    finally:
        assert made.remove() is None


@pytest.mark.parametrize("changed", [{"refusal": "it is a thin pool"}, {"vg_extents_free": 1}])
def test_what_cannot_be_snapshotted_is_refused_before_anything_is_begun(changed):
    with pytest.raises(AgentError) as refused:
        volume.SnapshotVolume(ORIGIN._replace(**changed), WANTED, 30.0, lambda: 0.0, [].append, [])
    assert refused.value.error == "SnapshotRefused"


def test_a_supervisor_that_died_is_the_reason_not_to_read_on():
    made = volume.SnapshotVolume(ORIGIN, WANTED, 30.0, lambda: 0.0, [].append, [])
    made.failure = AgentError("AgentDied", "here", "it is gone")
    with pytest.raises(AgentError, match="it is gone"):
        made.check()
    made.remove()
