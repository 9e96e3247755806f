"""The index: golden bytes both ways; what cannot be is refused, for it only may speed things up."""

import io
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockdiff.formats import FormatError, TornError, index
from blockdiff.formats.index import Member, Span

# by hand, from blockdiff-formats(5), "Index": blocks of 8; the header's member, blocks 0 to 1, block 5, the end
MEMBERS = [Member(0, 0, 0, 0), Member(24, 4, 0, 1), Member(300, 36, 5, 5), Member(333, 52, 0, 0)]
WIRE = b"bdindex1" + b"\x08\x00\x00\x00" + b"".join(
    number.to_bytes(8, "little")
    for number in (0, 0, 0, 0, 24, 4, 0, 1, 300, 36, 5, 5, 333, 52, 0, 0)
)  # fmt: skip
SPANS = [Span(MEMBERS[0], 24, 4), Span(MEMBERS[1], 276, 32), Span(MEMBERS[2], 33, 16)]


def decode(data, block_size):
    return index.spans(io.BytesIO(data).read, len(data), block_size)


def test_it_goes_both_ways():
    assert index.encode_header(8) + b"".join(index.encode(member) for member in MEMBERS) == WIRE
    assert list(decode(WIRE, 8)) == SPANS


def test_it_is_read_a_byte_at_a_time_too():
    file = io.BytesIO(WIRE)
    assert list(index.spans(lambda size: file.read(1), len(WIRE), 8)) == SPANS


@pytest.mark.parametrize("cut", range(len(WIRE)))
def test_a_cut_inside_an_entry_is_torn(cut):
    if cut >= 44 and (cut - 12) % 32 == 0:  # a border: the last entry is taken for the end
        assert len(list(decode(WIRE[:cut], 8))) == (cut - 12) // 32 - 1
    else:
        with pytest.raises(TornError):
            list(decode(WIRE[:cut], 8))


def test_a_file_that_is_shorter_than_it_was_is_torn():
    with pytest.raises(TornError):
        list(index.spans(io.BytesIO(WIRE[:-1]).read, len(WIRE), 8))


def entries(*members, block_size=8, magic=b"bdindex1"):
    return magic + struct.pack("<I", block_size) + b"".join(struct.pack("<4Q", *member) for member in members)


@pytest.mark.parametrize(
    "data",
    [
        entries(*MEMBERS, magic=b"bdindex2"),
        entries(*MEMBERS, block_size=16),
        entries((1, 0, 0, 0), (24, 4, 0, 0)),  # does not begin at the beginning
        entries((0, 4, 0, 0), (24, 8, 0, 0)),
        entries((0, 0, 0, 0), (0, 4, 0, 0)),  # no bytes
        entries((0, 0, 0, 0), (24, 4, 0, 0), (20, 20, 0, 0)),  # backwards
        entries((0, 0, 0, 0), (24, 0, 0, 0)),  # no payload
        entries((0, 0, 0, 0), (24, 4, 0, 0), (30, 21, 0, 0)),  # more than a block's record
        entries((0, 0, 0, 0), (24, 1 << 60, 0, 0)),
        entries((0, 0, 0, 0), (24, 4, 3, 2), (30, 20, 0, 0)),  # last before first
    ],
)
def test_what_cannot_be_is_refused(data):
    with pytest.raises(FormatError):
        list(decode(data, 8))


@pytest.mark.parametrize("block_size", [0, 16777217])
def test_a_block_size_that_cannot_be_is_not_written(block_size):
    with pytest.raises(FormatError):
        index.encode_header(block_size)


@given(st.binary(max_size=300), st.integers(1, 1 << 24))
@settings(max_examples=200, deadline=None)
def test_noise_never_gives_members_without_bounds(body, block_size):
    """A span never says more payload than its blocks can have: what is allocated for it is bounded."""
    data = index.encode_header(block_size) + bytes(32) + body
    try:
        for span in decode(data, block_size):
            blocks = span.member.last - span.member.first + 1
            assert span.stored > 0 and 0 < span.length <= blocks * (8 + block_size) + 4
    except FormatError:
        pass
