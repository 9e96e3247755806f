"""Which of the volumes on a disk is meant."""

import pytest

from blockdiff.guest.devices import Failed, Volume, chosen

DISK = [
    Volume("a", "partition 1", 1, 1, "ext4"), Volume("b", "partition 2", 1, 2), Volume("c", "partition 5", 1, 5, "LVM2_member"),
]  # fmt: skip
DISK[2].holds += [Volume("d", "vg/swap", 1, None, "swap", lv="swap"), Volume("e", "vg/root", 1, None, "xfs", lv="root")]


@pytest.mark.parametrize(
    ("volumes", "part", "lv", "device"),
    [(DISK, 1, None, "a"), (DISK, None, "vg/root", "e"), (DISK[:1], None, None, "a"), (DISK[1:], None, None, "e")],
)
def test_one_is_meant(volumes, part, lv, device):
    assert chosen(volumes, part, lv).device == device


@pytest.mark.parametrize(
    ("volumes", "part", "lv", "why", "text"),
    [
        (DISK, None, None, "several", "partition 1, vg/root"),
        (DISK, 9, None, "nothing", "partition 9"),
        (DISK, None, "vg/none", "nothing", "logical volume vg/none"),
        (DISK[1:2], None, None, "nothing", "file system"),
        (DISK, 2, None, "nothing", "file system that can be read in partition 2, which holds nothing that is known,"),
        (DISK, 5, None, "nothing", "file system that can be read in partition 5, which holds LVM2_member,"),
        (DISK, None, "vg/swap", "nothing", "file system that can be read in vg/swap, which holds swap,"),
    ],
)
def test_why_none_is_meant(volumes, part, lv, why, text):
    with pytest.raises(Failed) as failed:
        chosen(volumes, part, lv)
    assert (failed.value.why, failed.value.text) == (why, text)
