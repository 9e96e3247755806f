"""How much room a snapshot is given, in extents of 4 MiB, and what it does with where that is not to be had."""

import pytest

from agent.snapshots import lvm, sizing

EXTENT = 4 << 20


def volume(mebibytes, free):
    return lvm.Volume(
        path="/dev/vg0/lv0", vg="vg0", lv="lv0", uuid="u", kind="lvm-thick", size=mebibytes << 20, refusal=None,
        extent_size=EXTENT, vg_extents_free=free, pool=None, pool_data_percent=None, pool_metadata_percent=None,
        pool_health="",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("mebibytes", "free", "count"),
    [
        (384, 373, 97),  # all that it can use, with its metadata: it cannot overflow
        (384, 100, 50),  # half of what is free
        (384, 20, 18),  # a fifth of the volume would be all: a tenth stays free
        (64, 2, 2),  # what is there is enough for a start
        (1000, 510, 251),  # all that it can use
        (3000, 100_000, 256),  # 1 GiB
        (100_000, 100_000, 5000),  # a fifth
        (100_000, 3000, 2700),
        (100_000, 250, 250),  # the least that lasts, a hundredth
    ],
)
def test_what_a_snapshot_gets(mebibytes, free, count):
    given = sizing.extents(volume(mebibytes, free))

    assert given.count == count
    assert given.least == max(1, -(-mebibytes // 400))
    assert given.count <= min(free, sizing.largest(volume(mebibytes, free)))


def test_a_size_that_was_asked_for_is_given_or_refused():
    assert sizing.extents(volume(384, 373), "8M") == (2, 2)
    assert sizing.extents(volume(384, 373), "100G") == (97, 97)
    assert sizing.less(sizing.Room(97, 97), 20) is None


def test_less_is_tried_only_where_it_is_less_and_lasts():
    wanted = sizing.Room(40, 4)
    assert sizing.less(wanted, 20) == 10
    assert sizing.less(wanted, 5) == 4
    assert sizing.less(wanted, 3) is None
    assert sizing.less(wanted, 100) is None  # it was not for want of room
