import functools
import os
import zlib

import pytest
import zstandard
from contract import MIXED
from memory import peak_below

from blockdiff.formats import FormatError
from blockdiff.ingest import wirecodecs
from blockdiff.wire import messages

# what a DATA frame carries

ZLIB, ZSTD = functools.partial(zlib.compress, level=1), zstandard.ZstdCompressor().compress


@pytest.mark.parametrize("payload", [b"x", MIXED, bytes(1 << 20), os.urandom(1 << 20)], ids=len)
def test_the_wire_is_unwrapped(payload):
    for codec, body in ((messages.RAW, payload), (messages.ZLIB, ZLIB(payload)), (messages.ZSTD, ZSTD(payload))):
        assert wirecodecs.unwrap(codec, len(payload), memoryview(body)) == payload


@pytest.mark.parametrize("codec, pack", [(messages.ZLIB, ZLIB), (messages.ZSTD, ZSTD)], ids=["zlib", "zstd"])
def test_the_wire_is_unwrapped_to_exactly_what_was_said(codec, pack):
    body = pack(MIXED)
    for length in (1, len(MIXED) - 1, len(MIXED) + 1, 1 << 20):
        with pytest.raises(FormatError):
            wirecodecs.unwrap(codec, length, body)
    for wrong in (b"", body[:-1], body[:20], body + b"\0", body + body, b"garbage", os.urandom(300)):
        with pytest.raises(FormatError):
            wirecodecs.unwrap(codec, len(MIXED), wrong)


@pytest.mark.parametrize("codec, pack", [(messages.ZLIB, ZLIB), (messages.ZSTD, ZSTD)], ids=["zlib", "zstd"])
def test_a_bomb_on_the_wire_costs_what_was_said(codec, pack):
    bomb = pack(bytes(128 << 20))
    for length in (1, 1 << 20):
        with peak_below(4 * length + (1 << 20)):
            with pytest.raises(FormatError):
                wirecodecs.unwrap(codec, length, bomb)
