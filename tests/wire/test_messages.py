"""What frames carry: golden bytes both ways, and nothing taken on trust."""

import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockdiff.formats import FormatError
from blockdiff.wire import frames, messages
from blockdiff.wire.messages import CHANGED, SAME, ZERO, Extent

ONE, TWO = bytes(range(16)), bytes(range(100, 116))

# by hand, from blockdiff-protocol(5), "EXTENT": u64 first, u32 blocks, u16 runs, u8 others; u8 + u32 a run
EXTENTS = [
    (
        Extent(0, [(SAME, 1)], b"", b""),
        10,
        b"\x00\x00\x00\x00\x00\x00\x00\x00" b"\x01\x00\x00\x00" b"\x01\x00" b"\x00" b"\x00\x01\x00\x00\x00",
    ),
    (
        Extent(258, [(SAME, 5), (ZERO, 1), (CHANGED, 2)], ONE + TWO, b""),
        300,
        b"\x02\x01\x00\x00\x00\x00\x00\x00" b"\x08\x00\x00\x00" b"\x03\x00" b"\x00"
        b"\x00\x05\x00\x00\x00" b"\x01\x01\x00\x00\x00" b"\x02\x02\x00\x00\x00" + ONE + TWO,
    ),
    (
        Extent(1, [(CHANGED, 1), (SAME, 1)], ONE, TWO + ONE),
        3,
        b"\x01\x00\x00\x00\x00\x00\x00\x00" b"\x02\x00\x00\x00" b"\x02\x00" b"\x01"
        b"\x02\x01\x00\x00\x00" b"\x00\x01\x00\x00\x00" + ONE + TWO + ONE,
    ),
]  # fmt: skip
IDS = ["unchanged", "mixed", "with others"]


def head(first=0, count=1, runs=1, flags=0):
    return struct.pack("<QIHB", first, count, runs, flags)


def run(what, count):
    return struct.pack("<BI", what, count)


@pytest.mark.parametrize("extent, total, wire", EXTENTS, ids=IDS)
def test_an_extent_goes_both_ways(extent, total, wire):
    assert messages.encode_extent(extent) == wire
    assert messages.decode_extent(memoryview(wire), extent.first, total) == extent


@pytest.mark.parametrize("extent, total, wire", EXTENTS, ids=IDS)
def test_a_cut_or_longer_extent_is_an_error(extent, total, wire):
    for cut in range(len(wire)):
        with pytest.raises(FormatError):
            messages.decode_extent(wire[:cut], extent.first, total)
    with pytest.raises(FormatError):
        messages.decode_extent(wire + b"\0", extent.first, total)


@pytest.mark.parametrize(
    "wire, expected, total",
    [
        (head(first=1) + run(0, 1), 0, 10),  # a gap
        (head(first=0) + run(0, 1), 1, 10),  # back again
        (head(count=11) + run(0, 11), 0, 10),  # behind the end
        (head(first=10) + run(0, 1), 10, 10),
        (head(count=0) + run(0, 0), 0, 10),
        (head(count=(1 << 20) + 1) + run(0, (1 << 20) + 1), 0, 1 << 30),
        (head(count=(1 << 32) - 1) + run(0, (1 << 32) - 1), 0, 1 << 40),
        (head(runs=0), 0, 10),
        (head(count=8193, runs=8193) + run(0, 1) * 8193, 0, 10000),
        (head(flags=2) + run(0, 1), 0, 10),
        (head() + run(3, 1), 0, 10),  # no such kind of run
        (head(count=1, runs=2) + run(0, 1) + run(0, 0), 0, 10),  # an empty run
        (head(count=2) + run(0, 1), 0, 10),  # they do not add up
        (head(count=1) + run(0, (1 << 32) - 1), 0, 10),
        (head(count=16385) + run(2, 16385) + bytes(16 * 16385), 0, 20000),  # too many listed
        (head(count=16385, flags=1) + run(1, 16385) + bytes(16 * 16385), 0, 20000),
    ],
)
def test_an_extent_that_cannot_be_is_refused(wire, expected, total):
    with pytest.raises(FormatError):
        messages.decode_extent(wire, expected, total)


def test_the_largest_extents_pass_and_fit_a_frame():
    for extent in (
        Extent(0, [(SAME, 1 << 20)], b"", b""),
        Extent(0, [(CHANGED, 2), (SAME, 2)] * 4096, bytes(16 * 8192), bytes(16 * 16384)),
        Extent(0, [(CHANGED, 16384)], bytes(16 * 16384), bytes(16 * 16384)),
    ):
        wire = messages.encode_extent(extent)
        assert messages.decode_extent(wire, 0, 1 << 20) == extent
        assert len(frames.encode(messages.EXTENT, wire)) == 5 + len(wire)


# "DATA": u8 compression, u32 length when decompressed, the bytes
@pytest.mark.parametrize(
    "wire, found",
    [
        (b"\x00\x03\x00\x00\x00abc", (0, 3, b"abc")),
        (b"\x01\x00\x00\x10\x00\x78\x9c", (1, 1 << 20, b"\x78\x9c")),
        (b"\x02\x01\x00\x00\x00", (2, 1, b"")),  # the decompressor will refuse it
    ],
)
def test_data_goes_both_ways(wire, found):
    assert messages.encode_data_header(*found[:2]) + found[2] == wire
    assert messages.decode_data(memoryview(wire)) == found


@pytest.mark.parametrize(
    "wire",
    [
        *(b"\x00\x03\x00\x00\x00abc"[:cut] for cut in range(8)),
        b"\x00\x03\x00\x00\x00abcd",
        b"\x04\x03\x00\x00\x00abc",  # no such compression
        b"\x00\x00\x00\x00\x00",  # nothing
        b"\x01\x01\x00\x10\x00abc",  # one byte more than 1 MiB
        b"\x02\xff\xff\xff\xffabc",
    ],
)
def test_data_that_cannot_be_is_refused(wire):
    with pytest.raises(FormatError):
        messages.decode_data(wire)


def test_credit_goes_both_ways():
    assert messages.encode_credit(0x01020304) == b"\x04\x03\x02\x01"
    assert messages.decode_credit(b"\x04\x03\x02\x01") == 0x01020304


# "FREE": u64 each
def test_places():
    wire = b"\x08\x07\x06\x05\x04\x03\x02\x01" + bytes(8)
    assert messages.encode_places([0x0102030405060708, 0]) == wire
    assert messages.decode_places(memoryview(wire)) == [0x0102030405060708, 0]
    for wrong in (b"", wire[:-1], bytes(messages.MAX_TALK + 8)):
        with pytest.raises(FormatError):
            messages.decode_places(wrong)
    for wire in (b"", b"\0", b"\0\0\0", b"\0\0\0\0\0"):
        with pytest.raises(FormatError):
            messages.decode_credit(wire)


def test_talk_goes_both_ways():
    value = {"path": "/dev/vg/ä\udcff", "old": None, "jobs": 0, "compress": True, "timeout_s": 2.5}
    wire = messages.encode_talk(value)
    assert wire == (
        b'{"compress":true,"jobs":0,"old":null,"path":"/dev/vg/\\u00e4\\udcff","timeout_s":2.5}'
    )
    fields = {"path": str, "old": (int, type(None)), "jobs": int, "compress": bool, "timeout_s": (int, float)}
    assert messages.decode_talk(memoryview(wire), **fields) == value
    assert messages.decode_talk(b' {"a": 1, "unknown": [2]} ', a=int) == {"a": 1, "unknown": [2]}


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b"null",
        b'"a"',
        b'{"a":1}}',
        b'{"a":1',
        b"\xff\xfe",
        b'{"b":1}',
        b'{"a":null}',
        b'{"a":"1"}',
        b'{"a":1.5}',
        b'{"a":true}',  # no number
        b'{"a":18446744073709551616}',
        b'{"a":-9223372036854775809}',
        b'{"a":' + b"9" * 6000 + b"}",
        b'{"a":1,"b":' + b"[" * 60000 + b"]" * 500 + b"}",
        b'{"a":' + b"[" * 30000 + b"]" * 30000 + b"}",
        b'{"a":1,"b":"' + b"x" * 65536 + b'"}',
    ],
)
def test_talk_that_cannot_be_is_refused(wire):
    with pytest.raises(FormatError):
        messages.decode_talk(wire, a=int)


def test_a_key_that_may_be_null_must_still_be_there():
    assert messages.decode_talk(b'{"a":null}', a=(int, type(None))) == {"a": None}
    with pytest.raises(FormatError):
        messages.decode_talk(b"{}", a=(int, type(None)))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "1e30"])
def test_a_number_is_one_that_can_be_reckoned_with(number):
    with pytest.raises(FormatError):
        messages.decode_talk(b'{"a":%s}' % number.encode(), a=(int, float))


@given(st.binary(max_size=80), st.integers(0, 3), st.integers(0, 300))
@settings(max_examples=300, deadline=None)
def test_noise_is_a_format_error_or_means_something(data, expected, total):
    """Whatever decodes says the same again when encoded: no byte is overlooked."""
    try:
        extent = messages.decode_extent(data, expected, total)
    except FormatError:
        pass
    else:
        assert messages.encode_extent(extent) == data
    try:
        codec, length, body = messages.decode_data(data)
    except FormatError:
        pass
    else:
        assert messages.encode_data_header(codec, length) + bytes(body) == data
    try:
        messages.decode_talk(data)
    except FormatError:
        pass
    else:
        assert isinstance(json.loads(data.decode()), dict)


@given(
    st.lists(st.tuples(st.sampled_from([SAME, ZERO, CHANGED]), st.integers(1, 20)), min_size=1, max_size=20),
    st.booleans(),
    st.integers(0, 1 << 40),
)
@settings(max_examples=100, deadline=None)
def test_any_extent_goes_both_ways(runs, others, first):
    count = sum(length for _, length in runs)
    changed = sum(length for what, length in runs if what == CHANGED)
    extent = Extent(first, runs, bytes(16 * changed), b"o" * (16 * count) if others else b"")
    wire = messages.encode_extent(extent)
    assert messages.decode_extent(wire, first, first + count) == extent
    with pytest.raises(FormatError):
        messages.decode_extent(wire, first, first + count - 1)
