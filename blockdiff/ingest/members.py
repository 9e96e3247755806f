"""The members that a diff file is written in: how many records, those of zero blocks, what they cost at least.

Format: blockdiff-formats(5), "Members".
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from blockdiff import codecs
from blockdiff.codecs import base
from blockdiff.codecs.lzop import MOST_PACKED
from blockdiff.formats import difffile, digestfile, index
from blockdiff.wire import messages

_LONG = 4  # so many zero blocks, or a MiB of them, make members of their own
_MOST_RECORDS = 128 * 1024  # of a member, however small blocks are


@dataclass
class MadeMember:
    """A member, compressed."""

    data: bytes
    payload: int  # bytes of it before compression
    first: int  # index of its first block
    last: int

    def check(self) -> None:
        """Raise OverflowError if no reader would take it: then this program is wrong, and nothing may come of it."""
        if self.payload > base.MAX_MEMBER or len(self.data) > base.MAX_STORED:
            sizes = f"{self.payload} bytes of payload and {len(self.data)} stored"
            raise OverflowError(f"blocks {self.first} to {self.last} make a member of {sizes}, which no reader takes")


def is_long(count: int, block_size: int) -> bool:
    """Return whether so many zero blocks, neighbours in the diff file, make members of their own."""
    return count >= _LONG or count * block_size >= messages.MAX_DATA


def most_records(block_size: int) -> int:
    """Return how many records a member holds at most."""
    return max(1, min(base.MEMBER_SIZE // block_size, _MOST_RECORDS))


def header(codec: codecs.Codec, block_size: int) -> MadeMember:
    """Return the first member: the block size, alone, so that all others are made alike."""
    payload = difffile.encode_header(block_size)
    return MadeMember(codec.compress(payload), len(payload), 0, 0)


class ZeroMembers:
    """Makes members that hold zero blocks only."""

    def __init__(self, codec: codecs.Codec, size: int, block_size: int) -> None:
        """`size` is the volume's, in bytes."""
        self._codec, self._size, self._block_size = codec, size, block_size
        self._zeros = bytes(min(block_size, max(size, 1)))

    def of(self, runs: Iterable[tuple[int, int]]) -> Iterator[MadeMember]:
        """Yield members of the zero blocks of these runs, each (first, count) and in order, made one at a time."""
        most = most_records(self._block_size)
        waiting: list[int] = []  # blocks of short runs
        for first, count in runs:
            alone = is_long(count, self._block_size)
            for start in range(first, first + count, most):
                some = min(most, first + count - start)
                if waiting and (alone or len(waiting) + some > most):
                    yield self.packed(waiting)
                    waiting = []
                if alone:
                    yield self.run(start, some)
                else:
                    waiting += range(start, start + some)
        if waiting:
            yield self.packed(waiting)

    def run(self, first: int, count: int) -> MadeMember:
        """Return a member of so many zero blocks in a row; where the codec can, nothing is compressed for it."""
        data = None
        if (first + count) * self._block_size <= self._size:
            data = self._codec.zeros(first, self._block_size, count)
        if data is None:
            return self.packed(range(first, first + count))
        return MadeMember(data, count * (difffile.OFFSET_SIZE + self._block_size), first, first + count - 1)

    def packed(self, blocks: Sequence[int]) -> MadeMember:
        """Return a member of these zero blocks, compressed as any others are."""
        rows: list[bytes] = []
        for number in blocks:
            length = digestfile.length_of(number, self._size, self._block_size)
            rows += (difffile.encode_offset(number * self._block_size), self._zeros[:length])
        payload = b"".join(rows)
        data = self._codec.compress(payload, difffile.OFFSET_SIZE + self._block_size)
        return MadeMember(data, len(payload), blocks[0], blocks[-1])


def least_stored(size: int, block_size: int, codec: codecs.Codec, *, known: int = 0, keep_xxh: bool = True) -> int:
    """Return how many bytes the files of a version of a volume of `size` bytes have at least.

    Its digest files have every block; of the blocks after the `known` that its parent has
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
    made = min(len(member.data) for member in (zeros.run(0, some), zeros.packed(range(some))))
    # offsets further on may pack a little better
    return total + new * made * 9 // (some * 10) + new // some * index.ENTRY_SIZE
