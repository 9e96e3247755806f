"""The diff file's payload: golden bytes both ways, in any pieces, and every cut that it can show."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockdiff.formats import FormatError, TornError, difffile

# blockdiff-formats(5), EXAMPLES: 20 bytes in blocks of 8
HEADER = b"\x08\x00\x00\x00"
RECORDS = [
    (0, b"\x00\x00\x00\x00\x00\x00\x00\x00" b"AAAAAAAA"),
    (1, b"\x08\x00\x00\x00\x00\x00\x00\x00" b"BBBBBBBB"),
    (2, b"\x10\x00\x00\x00\x00\x00\x00\x00" b"CCCC"),
]
BODY = b"".join(record for _, record in RECORDS)
PAYLOAD = HEADER + BODY


def blocks_in(payload, block_size=8, last=True):
    return [(index, bytes(payload[start:end])) for index, start, end in difffile.split(payload, block_size, last)]


def test_the_pages_example_goes_both_ways():
    assert difffile.encode_header(8) == HEADER
    assert difffile.decode_header(HEADER) == 8
    assert b"".join(difffile.encode_offset(index * 8) + record[8:] for index, record in RECORDS) == BODY
    assert blocks_in(BODY) == [(index, record[8:]) for index, record in RECORDS]
    assert blocks_in(memoryview(BODY)) == blocks_in(bytearray(BODY)) == blocks_in(BODY)


@pytest.mark.parametrize(
    "offset, wire",
    [
        (0, bytes(8)),
        (1 << 40, b"\0\0\0\0\0\x01\0\0"),
        ((1 << 63) - 1, b"\xff\xff\xff\xff\xff\xff\xff\x7f"),
    ],
)
def test_an_offset_is_eight_bytes(offset, wire):
    assert difffile.encode_offset(offset) == wire
    assert blocks_in(wire + b"x", 1) == [(offset, b"x")]


@pytest.mark.parametrize("offset", [1 << 63, (1 << 64) - 1, (1 << 64) - 8, 1, 7, 9, 12])
def test_an_offset_that_no_block_has_is_refused(offset):
    with pytest.raises(FormatError):
        blocks_in(offset.to_bytes(8, "little") + b"x" * 8)


@pytest.mark.parametrize("wire", [b"", b"\x08", b"\x08\0\0", b"\x08\0\0\0\0", bytes(4), b"\x01\0\0\x01", b"\xff" * 4])
def test_a_header_that_cannot_be_is_refused(wire):
    with pytest.raises(FormatError):
        difffile.decode_header(wire)


@pytest.mark.parametrize("cut", range(len(BODY) + 1))
def test_a_cut_is_seen_wherever_the_format_can_show_it(cut):
    inside = cut % 16
    if inside == 0:
        assert blocks_in(BODY[:cut], last=False) == blocks_in(BODY[:cut]) == blocks_in(BODY)[: cut // 16]
        return
    with pytest.raises(TornError):  # more must follow
        blocks_in(BODY[:cut], last=False)
    if inside <= 8:  # not even one byte of a block
        with pytest.raises(TornError):
            blocks_in(BODY[:cut])
    else:  # could be the volume's last block
        assert [index for index, _ in blocks_in(BODY[:cut])] == list(range(cut // 16 + 1))


@pytest.mark.parametrize("cut", range(len(PAYLOAD) + 1))
def test_the_decoder_sees_the_same_byte_by_byte_and_whole(cut):
    for step in (1, 7, len(PAYLOAD)):
        decoder, found = difffile.Decoder(), b""
        for place in range(0, cut, step):
            decoder.feed(PAYLOAD[place : min(place + step, cut)])
            run = decoder.take()
            assert len(run) % 16 == 0
            found += run
        if cut < 4:
            with pytest.raises(TornError):
                decoder.close()
        else:
            assert decoder.block_size == 8 or cut == 4
            assert found + decoder.close() == BODY[: cut - 4]
            assert decoder.block_size == 8


def test_the_decoder_refuses_a_block_size_at_once():
    decoder = difffile.Decoder()
    decoder.feed(b"\xff\xff\xff\xff")
    with pytest.raises(FormatError):
        decoder.take()


@given(
    block_size=st.integers(1, 40),
    count=st.integers(0, 30),
    tail=st.integers(0, 39),
    steps=st.lists(st.integers(1, 200), min_size=1, max_size=20),
    least=st.integers(1, 100),
)
@settings(max_examples=100, deadline=None)
def test_any_payload_comes_whole_in_any_pieces(block_size, count, tail, steps, least):
    blocks = [(i, bytes([i + 1]) * block_size) for i in range(count)]
    if tail % block_size:
        blocks.append((count, b"\xff" * (tail % block_size)))
    payload = difffile.encode_header(block_size)
    payload += b"".join(difffile.encode_offset(i * block_size) + block for i, block in blocks)

    decoder, found, place, turn = difffile.Decoder(), [], 0, 0
    while place < len(payload):
        step = steps[turn % len(steps)]
        decoder.feed(payload[place : place + step])
        place, turn = place + step, turn + 1
        run = decoder.take(least)
        found += blocks_in(run, block_size, last=False) if run else []
    found += blocks_in(decoder.close(), block_size)
    assert found == blocks
