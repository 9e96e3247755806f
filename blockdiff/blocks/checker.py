"""The records of a diff file, checked against the digests that their blocks must have.

Whoever reads stored blocks, to restore, to verify or to accept what a command wrote, takes
them from here.  A block of zeros is known by one comparison, and its digest is computed once.
"""

import itertools
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from blockdiff.blocks import blockset
from blockdiff.blocks.diffreader import DiffFile, Piece
from blockdiff.blocks.md5many import md5_many, md5_of
from blockdiff.codecs.base import Payload
from blockdiff.formats import difffile
from blockdiff.sets.digests import Digests, Window
from blockdiff.sets.version import Version

ZERO, DATA, WRONG = range(3)  # a block of zeros and one of data, each with its digest; one without

_AT_ONCE = 4096  # digests
_TOGETHER = 512  # records that are checked at once, however small blocks are
_MOST_FAULTS = 8  # of one piece that are listed one by one
_OFFSET = struct.Struct("<Q")
_NOTHING = memoryview(b"")

Record = tuple[int, int, int]  # index of the block, where it starts and ends in the payload
Checked = tuple[int, int, int, memoryview]  # kind, first block, the one after the last, the block where it is DATA


@dataclass
class Faults:
    """What is wrong with a piece's records; bounded."""

    listed: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, why: str) -> None:
        """Add one."""
        self.count += 1
        if len(self.listed) < _MOST_FAULTS:
            self.listed.append(why)

    def lines(self) -> list[str]:
        """Return them; the last line is the number of those that are not listed."""
        rest = self.count - len(self.listed)
        return self.listed + ([f"and {rest} more"] if rest else [])


def split(payload: Payload, piece: Piece, volume: Version, faults: Faults) -> Iterator[Record]:
    """Yield the records of a piece's payload that can be; those that cannot go to `faults`.

    A record must be of a block that the volume has, of its length, and after the one before.
    """
    block_size, last = volume.block_size, volume.count - 1
    low, high = piece.run or (0, volume.count)
    total, place, previous = len(payload), piece.skip, -1
    while place < total:
        rest = total - place - difffile.OFFSET_SIZE
        if rest <= 0:
            faults.add("a record ends inside its offset")
            return
        (offset,) = _OFFSET.unpack_from(payload, place)
        number, odd = divmod(offset, block_size)
        start = place + difffile.OFFSET_SIZE
        length = block_size
        if number == last:
            length = min(rest, block_size) if volume.size is None else volume.size - last * block_size
        if odd or number > last:
            faults.add(f"a record has offset {offset}, where no block of this volume begins")
        elif rest < length:
            faults.add(f"the record of offset {offset} ends inside its block")
            return
        elif not low <= number < high:
            faults.add(f"a record of offset {offset}, which the index does not expect here")
        else:
            if number <= previous:
                faults.add(f"the record of offset {offset} is out of order")
            previous = number
            yield number, start, start + length
        place = start + length


class BlockChecker:
    """The digests that a version's blocks must have; for any number of threads."""

    def __init__(self, digests: Digests, block_size: int) -> None:
        self.digests = digests
        self._zeros = bytes(block_size)
        self._zero_digest = md5_many(self._zeros, block_size, block_size, 1)

    def check(
        self, file: DiffFile, piece: Piece, faults: Faults, wanted: blockset.Blocks | None = None
    ) -> Iterator[Checked]:
        """Yield the blocks of a piece, those that are not `wanted` left out; records that cannot be go to `faults`.

        Blocks of data come one by one, others also as runs.  Raises FormatError, before the
        first block, if the piece cannot be read.
        """
        if piece.zeros is not None:
            yield from self._check_zeros([piece.zeros] if wanted is None else wanted.runs(*piece.zeros))
            return
        payload = file.payload(piece)
        window = self.digests.window()
        records = split(payload, piece, file.version, faults)
        if wanted is not None:
            records = (record for record in records if record[0] < wanted.count and record[0] in wanted)
        while some := list(itertools.islice(records, _TOGETHER)):
            yield from self._check_some(payload, some, window)

    def _check_some(self, payload: Payload, records: list[Record], window: Window) -> Iterator[Checked]:
        """Yield these records' blocks; the digests of all that are not zeros are computed at once."""
        view = memoryview(payload)
        spans: list[tuple[int, int]] = []
        expected: list[bytes] = []  # b"" for a block of zeros
        for index, start, end in records:
            digest = window.of(index)
            if self.is_zero(payload, start, end, digest):
                digest = b""
            else:
                spans.append((start, end))
            expected.append(digest)
        found = iter(md5_of(view, spans, difffile.OFFSET_SIZE + len(self._zeros)))
        for (index, start, end), digest in zip(records, expected, strict=True):
            if digest:
                yield DATA if next(found) == digest else WRONG, index, index + 1, view[start:end]
            else:
                yield ZERO, index, index + 1, _NOTHING

    def _check_zeros(self, runs: Iterable[blockset.Run]) -> Iterator[Checked]:
        """Yield whole blocks of zeros by their digests alone."""
        for run in runs:
            wrong = list(self.not_zero(*run))
            for first, stop in wrong:
                yield WRONG, first, stop, _NOTHING
            for first, stop in blockset.without([run], wrong):
                yield ZERO, first, stop, _NOTHING

    def is_zero(self, payload: bytes | bytearray, start: int, end: int, digest: bytes) -> bool:
        """Return whether payload[start:end] is a whole block of zeros and `digest` is that of one."""
        return digest == self._zero_digest and payload.startswith(self._zeros, start, end)

    def not_zero(self, first: int, stop: int) -> Iterator[blockset.Run]:
        """Yield which of these blocks are not whole and zero, by their digests."""
        for start in range(first, stop, _AT_ONCE):
            count = min(_AT_ONCE, stop - start)
            yield from blockset.changed(self._zero_digest * count, self.digests.take(start, count), start)

    def count_not_zero(self) -> int:
        """Return how many blocks are not whole and zero, by their digests."""
        zeros = 0
        for start in range(0, self.digests.count, _AT_ONCE):
            data = self.digests.take(start, min(_AT_ONCE, self.digests.count - start))
            zeros += data.count(self._zero_digest)
        return self.digests.count - zeros
