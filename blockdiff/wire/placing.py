"""Payloads of a restore to a host: which blocks of the target come next, and how much of it is on the disk.

Nothing is trusted when decoding.  Format: blockdiff-protocol(5), "PLACE".
"""

import struct
from typing import NamedTuple

from blockdiff.formats import BYTES_OF_DIGEST, Buffer, FormatError
from blockdiff.wire import messages

_PLACE = struct.Struct("<QIB")
_PLACED = struct.Struct("<Q")


class Place(NamedTuple):
    """Neighbouring blocks that are written next."""

    first: int  # index of the first block
    blocks: int
    digests: bytes  # of all of them; empty: they are zeros


def encode_place(place: Place) -> bytes:
    """Return the bytes of a place."""
    return _PLACE.pack(place.first, place.blocks, 1 if place.digests else 0) + place.digests


def decode_place(payload: Buffer, total: int) -> Place:
    """Return the place in payload, of a target of `total` blocks.  Raises FormatError."""
    if len(payload) < _PLACE.size:
        raise FormatError("place without a header")
    first, count, kind = _PLACE.unpack_from(payload)
    if kind > 1 or not 1 <= count <= (messages.MAX_LISTED if kind else messages.MAX_COUNT):
        raise FormatError("place of kind %d, %d blocks" % (kind, count))
    if first + count > total:
        raise FormatError("place of %d blocks at block %d of %d" % (count, first, total))
    digests = bytes(payload[_PLACE.size :])
    if len(digests) != kind * count * BYTES_OF_DIGEST:
        raise FormatError("place of %d blocks with %d bytes of digests" % (count, len(digests)))
    return Place(first, count, digests)


def encode_placed(length: int) -> bytes:
    """Return that so many bytes are on the disk."""
    return _PLACED.pack(length)


def decode_placed(payload: Buffer) -> int:
    """Return how many bytes are on the disk.  Raises FormatError."""
    if len(payload) != _PLACED.size:
        raise FormatError("placed of %d bytes" % len(payload))
    return int(_PLACED.unpack(payload)[0])
