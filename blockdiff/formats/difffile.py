"""The diff file's payload, NAME.N without its compression: the blocks that a version stored.

A header of 4 bytes (u32 block size), then records: u64 offset of the block in the
volume, then the block itself.  A record does not contain its length: every block is whole
except the volume's last one, whose record is the last.  So a cut between two records is
not detected here; the caller detects it by the digest file.
Format: blockdiff-formats(5), "Diff file".
"""

import struct
from typing import Iterator, List, Optional, Tuple

from blockdiff.formats import Buffer, FormatError, TornError, check_block_size

_HEADER = struct.Struct("<I")
_OFFSET = struct.Struct("<Q")
HEADER_SIZE = _HEADER.size  # bytes
OFFSET_SIZE = _OFFSET.size  # bytes
MAX_OFFSET = (1 << 63) - 1  # bytes; the largest file offset


def encode_offset(offset: int) -> bytes:
    """Return the first bytes of a record: where its block is in the volume, in bytes."""
    return _OFFSET.pack(offset)


def encode_header(block_size: int) -> bytes:
    """Return the header for blocks of block_size bytes."""
    return _HEADER.pack(check_block_size(block_size))


def decode_header(data: bytes) -> int:
    """Return the block size of a header, in bytes.

    Raises TornError if data does not have the length of a header, FormatError for an impossible size.
    """
    if len(data) != HEADER_SIZE:
        raise TornError("diff header is %d bytes, expected %d" % (len(data), HEADER_SIZE))
    return check_block_size(int(_HEADER.unpack(data)[0]))


def split(payload: Buffer, block_size: int, last: bool) -> Iterator[Tuple[int, int, int]]:
    """Yield (index, start, end) for each record of payload, which begins with a record.

    `payload[start:end]` is the block.  `last`: nothing follows; only then may the final record
    be shorter than a block.  Raises TornError for a record without a block or a
    short one before the end, FormatError for an offset that no block of this size has.
    """
    step = OFFSET_SIZE + block_size
    total = len(payload)
    place = 0
    while place < total:
        if total - place <= OFFSET_SIZE:
            raise TornError("record ends inside its offset")
        (offset,) = _OFFSET.unpack_from(payload, place)
        if offset > MAX_OFFSET or offset % block_size:
            raise FormatError("offset %d is not a block's" % offset)
        start = place + OFFSET_SIZE
        end = min(place + step, total)
        if end - start < block_size and not last:
            raise TornError("record at offset %d ends inside its block" % offset)
        yield offset // block_size, start, end
        place = end


class Decoder:
    """Turn a payload that arrives in pieces into whole records.

    Feed it pieces; `take` gives (block_size, payload) with as many whole records as are
    there; `close` ends the input and gives the rest, whose last record may be short.
    """

    def __init__(self) -> None:
        self.block_size: Optional[int] = None  # bytes; known once the header is there
        self._parts: List[bytes] = []
        self._length = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        if data:
            self._parts.append(data)
            self._length += len(data)

    def _joined(self) -> bytes:
        whole = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        if self.block_size is None and len(whole) >= HEADER_SIZE:
            self.block_size = decode_header(whole[:HEADER_SIZE])
            whole = whole[HEADER_SIZE:]
        return whole

    def take(self, least: int = 1) -> bytes:
        """Return whole records as bytes, b"" while fewer than `least` bytes are there.

        The last record is not returned before something follows it or `close` is called.
        """
        if self._length < least or not self._parts:
            return b""
        whole = self._joined()
        if self.block_size is None:
            self._parts, self._length = [whole], len(whole)
            return b""
        step = OFFSET_SIZE + self.block_size
        end = max(0, len(whole) - 1) // step * step
        self._parts, self._length = [whole[end:]], len(whole) - end
        return whole[:end]

    def close(self) -> bytes:
        """End the input and return the records that are left.

        Raises TornError if there was not even a header.
        """
        whole = self._joined() if self._parts else b""
        if self.block_size is None:
            raise TornError("diff header is %d bytes, expected %d" % (len(whole), HEADER_SIZE))
        self._parts, self._length = [], 0
        return whole
