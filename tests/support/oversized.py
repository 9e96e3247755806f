"""The sets in tests/vectors/oversized, with members that are larger than any that is written."""

import places

VECTORS = places.VECTORS / "oversized"
BLOCK, COUNT, TAIL = 330_000, 280, 7


def volume_of(number):
    """The volume as it was at a version of the vectors; the README there says so."""
    volume = bytearray(b"".join(bytes([i % 251 + 1]) * BLOCK for i in range(COUNT)) + b"\xff" * TAIL)
    if number > 1:
        for i in range(0, COUNT, 4):
            volume[i * BLOCK : (i + 3) * BLOCK] = bytes(3 * BLOCK)
    if number > 2:
        volume[3 * BLOCK : 4 * BLOCK] = b"x" * BLOCK
    return volume
