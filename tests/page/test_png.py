"""Pictures, read back by the rules of the PNG specification."""

import random
import struct
import zlib

import pytest

from blockdiff.page import png

PALETTE = [(n, 2 * n, 3 * n, 255 - n) for n in range(16)]


def chunks(data):
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    place = 8
    while place < len(data):
        (length,) = struct.unpack_from(">I", data, place)
        kind, body = data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        assert struct.unpack_from(">I", data, place + 8 + length) == (zlib.crc32(kind + body),)
        yield kind, body
        place += 12 + length


@pytest.mark.parametrize("width, height", [(1, 1), (2, 3), (255, 4), (256, 30)])
def test_every_pixel_has_its_colour(width, height):
    choose = random.Random(width)
    rows = [[choose.randrange(16) for _ in range(width)] for _ in range(height)]
    found = dict(chunks(png.encode(rows, PALETTE)))
    assert list(found) == [b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"]
    assert struct.unpack(">IIBBBBB", found[b"IHDR"]) == (width, height, 4, 3, 0, 0, 0)
    colours = [(*found[b"PLTE"][3 * n : 3 * n + 3], found[b"tRNS"][n]) for n in range(16)]
    assert colours == PALETTE
    data, step = zlib.decompress(found[b"IDAT"]), 1 + (width + 1) // 2
    assert len(data) == step * height
    for y, row in enumerate(rows):
        line = data[y * step : (y + 1) * step]
        assert line[0] == 0
        assert [line[1 + x // 2] >> (0 if x % 2 else 4) & 15 for x in range(width)] == row
