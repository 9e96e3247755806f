"""Places: golden bytes both ways, and nothing taken on trust."""

import pytest

from blockdiff.formats import FormatError
from blockdiff.wire import messages, placing
from blockdiff.wire.placing import Place

DIGESTS = bytes(range(32))
# by hand, from blockdiff-protocol(5), "PLACE"
WIRE = [
    (Place(5, 3, b""), bytes.fromhex("0500000000000000 03000000 00")),
    (Place(258, 2, DIGESTS), bytes.fromhex("0201000000000000 02000000 01") + DIGESTS),
]


@pytest.mark.parametrize("value, wire", WIRE)
def test_a_place_goes_both_ways(value, wire):
    assert placing.encode_place(value) == wire
    assert placing.decode_place(memoryview(wire), 260) == value


@pytest.mark.parametrize(
    "wire, total",
    [
        (b"", 260), (WIRE[0][1][:-1], 260), (WIRE[0][1], 7), (WIRE[1][1], 259), (WIRE[1][1][:-1], 260),
        (WIRE[1][1] + b"x", 260), (WIRE[0][1] + b"x" * 16, 260),
        (bytes(8) + bytes(4) + b"\0", 260),  # no block
        (bytes(8) + b"\1\0\0\0\2", 260),  # a third kind
        (b"\xff" * 8 + b"\1\0\0\0\0", 1 << 63),
        (bytes(8) + (messages.MAX_COUNT + 1).to_bytes(4, "little") + b"\0", 1 << 40),
        (bytes(8) + (messages.MAX_LISTED + 1).to_bytes(4, "little") + b"\1" + bytes(16 * (messages.MAX_LISTED + 1)), 1 << 40),
    ],
)  # fmt: skip
def test_a_place_that_cannot_be(wire, total):
    with pytest.raises(FormatError):
        placing.decode_place(wire, total)


def test_how_much_is_on_the_disk():
    assert placing.encode_placed(258) == b"\2\1" + bytes(6)
    assert placing.decode_placed(b"\2\1" + bytes(6)) == 258
    for wire in (b"", bytes(7), bytes(9)):
        with pytest.raises(FormatError):
            placing.decode_placed(wire)
