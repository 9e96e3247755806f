"""The digest file: golden bytes, borders, and counting blocks."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockdiff.formats import FormatError, TornError, digestfile

# blockdiff-formats(5), "Digest file" and EXAMPLES: 20 bytes in blocks of 8
EXAMPLE = (
    b"\x08\x00\x00\x00"
    b"\xae\xe9\xe3\x8c\xb4\xd4\x0e\xc2\x79\x45\x42\x56\x75\x39\xb4\xc8"
    b"\x96\x21\xed\xf9\xae\x06\x0b\x82\xb0\xa9\x0b\x09\x95\xe1\xaf\x28"
    b"\xb4\x1c\x19\x49\xbe\xf0\xcb\x7c\x83\x99\x8d\x0a\x5d\x83\xbc\xc2"
)


def test_the_pages_example_is_what_it_says():
    blocks = [b"AAAAAAAA", b"BBBBBBBB", b"CCCC"]
    body = b"".join(hashlib.md5(block, usedforsecurity=False).digest() for block in blocks)
    assert digestfile.encode_header(8) + body == EXAMPLE
    assert digestfile.decode_header(EXAMPLE[:4]) == 8
    assert digestfile.count(len(EXAMPLE)) == digestfile.blocks_of(20, 8) == 3
    assert [digestfile.position(i) for i in range(4)] == [4, 20, 36, len(EXAMPLE)]
    assert [digestfile.length_of(i, 20, 8) for i in range(3)] == [8, 8, 4]


@pytest.mark.parametrize(
    "size, wire",
    [
        (1, b"\x01\x00\x00\x00"),
        (16384, b"\x00\x40\x00\x00"),
        (16834, b"\xc2\x41\x00\x00"),
        (16777216, b"\x00\x00\x00\x01"),
    ],
)
def test_a_header_goes_both_ways(size, wire):
    assert digestfile.encode_header(size) == wire
    assert digestfile.decode_header(wire) == size


@pytest.mark.parametrize("size", [0, 16777217, 1 << 31, (1 << 32) - 1])
def test_a_block_size_that_cannot_be_is_refused(size):
    with pytest.raises(FormatError):
        digestfile.encode_header(size)
    with pytest.raises(FormatError):
        digestfile.decode_header(size.to_bytes(4, "little"))


@pytest.mark.parametrize("wire", [b"", b"\x08", b"\x08\0\0", b"\x08\0\0\0\0"])
def test_a_header_is_four_bytes(wire):
    with pytest.raises(TornError):
        digestfile.decode_header(wire)


def test_every_cut_but_on_a_border_is_torn():
    for cut in range(len(EXAMPLE) + 20):
        if cut >= 4 and (cut - 4) % 16 == 0:
            assert digestfile.count(cut) == (cut - 4) // 16
        else:
            with pytest.raises(TornError):
                digestfile.count(cut)


@given(st.integers(0, 1 << 62), st.integers(1, 1 << 24))
def test_blocks_cover_the_volume(size, block_size):
    count = digestfile.blocks_of(size, block_size)
    if count:
        last = digestfile.length_of(count - 1, size, block_size)
        assert 1 <= last <= block_size
        assert (count - 1) * block_size + last == size
    else:
        assert size == 0


def test_a_negative_size_is_refused():
    with pytest.raises(FormatError):
        digestfile.blocks_of(-1, 8)
