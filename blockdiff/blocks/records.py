"""The records of one decompressed member, found by their blocks.

Every record but that of the volume's last block has the same length, and they are in ascending order.
Format: blockdiff-formats(5), "Diff file".
"""

import bisect
import struct
import threading

from blockdiff.codecs.base import Payload
from blockdiff.formats import difffile

_OFFSET = struct.Struct("<Q")


class Records:
    """Records in a payload; what they contain is not checked here."""

    def __init__(self, payload: Payload, block_size: int, skip: int = 0) -> None:
        """`skip`: bytes before the first record."""
        self.payload, self.block_size = payload, block_size
        self._skip, self.step = skip, difffile.OFFSET_SIZE + block_size
        # a rest without a block is no record
        self.count = max(0, -(-(len(payload) - skip - difffile.OFFSET_SIZE) // self.step))
        self.proved = bytearray(self.count)  # 1: this record's block has the digest that it must have
        self.proving = threading.Lock()

    @property
    def cost(self) -> int:
        """Bytes of memory that they take."""
        return len(self.payload) + len(self.proved)

    def block(self, record: int) -> int:
        """Return which block a record is of; -1 for one whose offset is no block's."""
        number, odd = divmod(_OFFSET.unpack_from(self.payload, self._skip + record * self.step)[0], self.block_size)
        return -1 if odd else int(number)

    def first_from(self, block: int) -> int:
        """Return the first record of this block or a later one, `count` if there is none."""
        return bisect.bisect_left(range(self.count), block, key=self.block)

    def run(self, block: int, most: int) -> tuple[int, int]:
        """Return the records of `block` and, up to `most` in all, of those that follow it: first, and after the last.

        Both are the same where there is no record of it.
        """
        first = after = self.first_from(block)
        while after < min(self.count, first + most) and self.block(after) == block + after - first:
            after += 1
        return first, after

    def span(self, record: int) -> tuple[int, int]:
        """Return where a record's block begins and ends in the payload."""
        start = self._skip + record * self.step + difffile.OFFSET_SIZE
        return start, min(start + self.block_size, len(self.payload))
