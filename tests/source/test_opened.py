"""What an agent says of a volume that it has opened."""

import pytest
from hostile import opened as spoken

from blockdiff.formats import FormatError
from blockdiff.source.opened import Opened, decode_opened

SNAPSHOT = {"name": "vg/s\x1b[31m", "size": None, "fill": 0}


def test_a_file_has_no_snapshot():
    assert decode_opened(spoken(9, users="mariadbd")[1], 4) == Opened(9, "file", same=True, users="mariadbd")


def test_a_logical_volume_has_one_that_is_safe_to_print():
    found = decode_opened(spoken(9, kind="lvm-thin", lv_uuid="a-b", snapshot=SNAPSHOT, holds=True)[1], 4)
    assert (found.kind, found.lv_uuid, found.holds) == ("lvm-thin", "a-b", True)
    assert found.snapshot["name"].isprintable() and found.snapshot["fill"] == 0.0


@pytest.mark.parametrize("changes", [
    {"size": -1}, {"size": 1 << 63}, {"size": (1 << 63) - 1}, {"kind": "tape"}, {"kind": "lvm-thick"}, {"same": 1},
    {"kind": "lvm-thick", "lv_uuid": "a", "holds": None, "snapshot": {**SNAPSHOT, "fill": "full"}},
])  # fmt: skip
def test_what_cannot_be_is_refused(changes):
    with pytest.raises(FormatError):
        decode_opened(spoken(**{"size": 9, **changes})[1], 4)
