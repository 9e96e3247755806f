"""What every codec does, and what all of them share."""

import struct
from collections.abc import Callable, Iterator
from typing import Protocol

from blockdiff.formats import Buffer, difffile

Payload = bytes | bytearray
Read = Callable[[int], bytes]  # up to so many bytes, b"" at the end

MEMBER_SIZE = 4 * 1024 * 1024  # bytes of blocks at which a member is full, unless one block is larger
# The limits of one member.  No larger one is written; a reader decompresses no more at once.
MAX_MEMBER = 64 * 1024 * 1024  # bytes of payload
MAX_STORED = 2 * MAX_MEMBER  # bytes of the diff file
PIECE = 1024 * 1024  # bytes that a stream reads at a time, and of payload that it yields at most


class Codec(Protocol):
    """One kind of diff file."""

    suffix: str  # of the diff file

    def compress(self, payload: Buffer, step: int = 0) -> bytes:
        """Return payload as one member; `step`: bytes of a record; some records may compress and others not."""

    def zeros(self, first: int, block_size: int, count: int) -> bytes | None:
        """Return a member of `count` zero blocks from block `first` on, without compressing them.

        None where this codec has no such shortcut, or none for blocks of this size.
        """

    def zero_run(self, member: Buffer, block_size: int) -> tuple[int, int] | None:
        """Return (first, count) if member is exactly what `zeros` makes, else None."""

    def decompress(self, member: Buffer, length: int) -> Payload:
        """Return the payload of one member, exactly length bytes.  Raises FormatError."""

    def stream(self, read: Read) -> Iterator[bytes]:
        """Yield the whole file's payload in pieces.  Raises FormatError, TornError for a cut one."""


def parse_zeros(codec: Codec, member: Buffer, place: int, length: int, block_size: int) -> tuple[int, int] | None:
    """Return the (first, count) of a member of zero blocks, None unless it is byte for byte what `zeros` makes.

    `place`: position of its first record's offset; `length`: bytes of payload by its header.
    """
    count, rest = divmod(length, difffile.OFFSET_SIZE + block_size)
    (offset,) = struct.unpack_from("<Q", member, place)
    # no member has more records than bytes: this bounds what is built to compare
    if rest or not 1 <= count <= len(member) // difffile.OFFSET_SIZE or offset % block_size:
        return None
    if offset + count * block_size > difffile.MAX_OFFSET:
        return None
    first = offset // block_size
    return (first, count) if codec.zeros(first, block_size, count) == bytes(member) else None
