"""The wire's envelope: golden frames both ways, however they are cut up, and bounds before memory."""

import itertools
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory import peak_below

from blockdiff.formats import FormatError, TornError
from blockdiff.wire import frames

# by hand, from blockdiff-protocol(5), "Frames": u8 kind, u32 length, payload
VECTORS = [
    ((10, b""), b"\x0a\x00\x00\x00\x00"),
    ((7, b"abc"), b"\x07\x03\x00\x00\x00abc"),
    ((255, b"\x00"), b"\xff\x01\x00\x00\x00\x00"),
    ((6, bytes(300)), b"\x06\x2c\x01\x00\x00" + bytes(300)),
]
LONGEST = 1049600  # bytes of payload, as the page says
STREAM = b"".join(wire for _, wire in VECTORS)
BORDERS = {sum(len(wire) for _, wire in VECTORS[:n]) for n in range(len(VECTORS) + 1)}


def taken(decoder):
    """All frames that a decoder can give now."""
    found = []
    while (frame := decoder.next()) is not None:
        found.append((frame[0], bytes(frame[1])))
    return found


@pytest.mark.parametrize("frame, wire", VECTORS)
def test_a_frame_is_encoded_as_told(frame, wire):
    assert frames.encode(*frame) == wire
    assert frames.encode_header(frame[0], len(frame[1])) == wire[:5]


@pytest.mark.parametrize("frame, wire", VECTORS)
def test_a_frame_is_decoded_whole_by_the_byte_and_with_a_tail(frame, wire):
    whole = frames.Decoder()
    whole.feed(wire)
    assert taken(whole) == [frame]
    whole.close()

    drip = frames.Decoder()
    for i in range(len(wire)):
        assert drip.next() is None
        assert 1 <= drip.missing() <= len(wire) - i
        drip.feed(wire[i : i + 1])
    assert taken(drip) == [frame]
    drip.close()

    followed = frames.Decoder()
    followed.feed(wire + b"\x09")
    assert taken(followed) == [frame]
    with pytest.raises(TornError):
        followed.close()


@pytest.mark.parametrize("cut", range(len(STREAM) + 1))
def test_a_wire_cut_inside_a_frame_is_noticed(cut):
    decoder = frames.Decoder()
    decoder.feed(STREAM[:cut])
    found = taken(decoder)
    assert found == [frame for frame, _ in VECTORS][: len(found)]
    if cut in BORDERS:
        decoder.close()
    else:
        with pytest.raises(TornError):
            decoder.close()


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=12))
@settings(max_examples=60, deadline=None)
def test_the_cuts_do_not_matter(cuts):
    decoder, found = frames.Decoder(), []
    places = [0, *sorted(cuts), len(STREAM)]
    for start, end in itertools.pairwise(places):
        decoder.feed(STREAM[start:end])
        found += taken(decoder)
    assert found == [frame for frame, _ in VECTORS]
    decoder.close()


def test_the_longest_frame_passes():
    payload = bytes(range(256)) * (LONGEST // 256)
    wire = frames.encode(6, payload)
    decoder = frames.Decoder()
    for place in range(0, len(wire), 100_000):
        decoder.feed(wire[place : place + 100_000])
    assert taken(decoder) == [(6, payload)]


@pytest.mark.parametrize("length", [LONGEST + 1, 1 << 31, (1 << 32) - 1])
def test_a_longer_one_is_refused_before_memory_is_spent(length):
    decoder = frames.Decoder()
    decoder.feed(struct.pack("<BI", 6, length))
    with peak_below(100_000), pytest.raises(FormatError):
        decoder.next()
    with pytest.raises(FormatError):
        frames.encode_header(6, length)


def test_a_small_frame_does_not_keep_what_arrived_with_it():
    """A frame may wait for long: it holds its own bytes, not the whole piece of the wire."""
    decoder = frames.Decoder()
    held = []
    with peak_below(1_500_000):
        for _ in range(64):
            decoder.feed(frames.encode(6, b"x" * 10) + frames.encode(10, bytes(200_000)))
            held += [frame for frame in (decoder.next(), decoder.next()) if frame[0] == 6]
    assert len(held) == 64
