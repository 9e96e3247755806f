"""The members that a diff file is written in: how many records, those of zero blocks, what they cost at least.

Format: blockdiff-formats(5), "Members".
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from blockdiff import codecs, index
from blockdiff.codecs.lzop import MOST_PACKED
from blockdiff.formats import difffile, digestfile

_MOST_RECORDS = 65536  # of a member, whatever the size of a block


@dataclass
class MadeMember:
    """A member, compressed."""

    data: bytes
    payload: int  # bytes of it before compression
    first: int  # index of its first block
    last: int


def most_records(block_size: int) -> int:
    """Return how many records a member holds at most."""
    return max(1, min(codecs.MEMBER_SIZE // block_size, _MOST_RECORDS))


class ZeroMembers:
    """Makes members that hold zero blocks only."""

    def __init__(self, codec: codecs.Codec, size: int, block_size: int) -> None:
        """`size` is the volume's, in bytes."""
        self._codec, self._size, self._block_size = codec, size, block_size
        self._zeros = bytes(min(block_size, max(size, 1)))

    def of(self, first: int, count: int) -> Iterator[MadeMember]:
        """Yield members of so many zero blocks from block `first` on, made one at a time."""
        most = most_records(self._block_size)
        for start in range(first, first + count, most):
            some = min(most, first + count - start)
            length = min((start + some) * self._block_size, self._size) - start * self._block_size
            data = None
            if length == some * self._block_size:
                data = self._codec.zeros(start, self._block_size, some)
            if data is None:
                data = self.packed(range(start, start + some))
            yield MadeMember(data, length + some * difffile.OFFSET_SIZE, start, start + some - 1)

    def packed(self, blocks: Iterable[int]) -> bytes:
        """Return a member of these blocks' records, compressed as any others are."""
        return self._codec.compress(b"".join(self._records(blocks)), difffile.OFFSET_SIZE + self._block_size)

    def _records(self, blocks: Iterable[int]) -> Iterator[bytes]:
        for number in blocks:
            yield difffile.encode_offset(number * self._block_size)
            yield self._zeros[: digestfile.length_of(number, self._size, self._block_size)]


def least_stored(size: int, block_size: int, codec: codecs.Codec, *, known: int = 0, keep_xxh: bool = True) -> int:
    """Return how many bytes the files of a version of a volume of `size` bytes have at least.

    Its digest files tell of every block; of the blocks after the `known` that its parent has
    (0: it is a full one) there are records, and nothing takes less room than zeros.
    """
    count = digestfile.blocks_of(size, block_size)
    total = digestfile.position(count) * (2 if keep_xxh else 1)
    new = max(0, count - known)
    if not new:
        return total
    payload = size - (count - new) * block_size + new * difffile.OFFSET_SIZE
    if codec is codecs.PLAIN:
        return total + difffile.HEADER_SIZE + payload
    if codec is codecs.LZOP:
        return total + payload // MOST_PACKED
    some = min(new, most_records(block_size))
    zeros = ZeroMembers(codec, some * block_size, block_size)
    made = min(len(next(zeros.of(0, some)).data), len(zeros.packed(range(some))))
    # offsets further on may pack a little better
    return total + new * made * 9 // (some * 10) + new // some * index.ENTRY_SIZE
