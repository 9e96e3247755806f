"""A small picture as a PNG file of 16 colours; the PNG specification, third edition."""

import struct
import zlib
from collections.abc import Sequence

Colour = tuple[int, int, int, int]  # red, green, blue and opacity, 0 to 255 each


def encode(rows: Sequence[Sequence[int]], palette: Sequence[Colour]) -> bytes:
    """Return the file; rows are of one length, with the number of each pixel's colour."""
    width = len(rows[0])
    lines = b"".join(b"\0" + _packed(row) for row in rows)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, len(rows), 4, 3, 0, 0, 0)),
            _chunk(b"PLTE", bytes(part for colour in palette for part in colour[:3])),
            _chunk(b"tRNS", bytes(colour[3] for colour in palette)),
            _chunk(b"IDAT", zlib.compress(lines, 9)),
            _chunk(b"IEND", b""),
        )
    )


def _packed(row: Sequence[int]) -> bytes:
    digits = "".join(map("0123456789abcdef".__getitem__, row))  # a pixel has four bits
    return bytes.fromhex(digits + "0" * (len(row) % 2))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
