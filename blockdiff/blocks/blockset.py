"""Sets of blocks: those that are wanted, found or lost.

A restore wants every block of its version once.  It reads the newest version first.  A
block that was found is not wanted any more, so records of it in older versions are not
read.  A verify reads the oldest version first and keeps the blocks that are lost: those
whose record is missing or wrong.  A later record with the right digest makes a block good
again.  Pure; one bit a block.
"""

import re
from collections.abc import Iterable, Iterator

from blockdiff.formats import BYTES_OF_DIGEST

Run = tuple[int, int]  # the first block, and the one after the last

_NOT_ZERO = re.compile(rb"[^\x00]", re.DOTALL)
_NOT_ONES = re.compile(rb"[^\xff]", re.DOTALL)
_CLUSTER = 64  # digests that are compared at once


class Blocks:
    """A set of blocks, all below `count`."""

    def __init__(self, count: int, full: bool = False) -> None:
        self.count = count
        self._bits = bytearray((count + 7) // 8)
        self._length = 0
        if full:
            self.add(0, count)

    def copy(self) -> "Blocks":
        """Return the same set, which changes on its own."""
        out = Blocks(0)
        out.count, out._bits, out._length = self.count, bytearray(self._bits), self._length
        return out

    def __len__(self) -> int:
        return self._length

    def __contains__(self, index: int) -> bool:
        return bool(self._bits[index >> 3] >> (index & 7) & 1)

    def add(self, first: int, stop: int) -> None:
        """Add these blocks; those at `count` or above are ignored."""
        self._assign(first, min(stop, self.count), True)

    def remove(self, first: int, stop: int) -> None:
        """Remove these blocks."""
        self._assign(first, min(stop, self.count), False)

    def resize(self, count: int) -> None:
        """Forget all blocks at `count` and above, or allow more; new ones are not in the set."""
        self.remove(count, self.count)
        size = (count + 7) // 8
        if size < len(self._bits):
            del self._bits[size:]
        else:
            self._bits.extend(bytes(size - len(self._bits)))
        self.count = count

    def any(self, first: int, stop: int) -> bool:
        """Return whether one of these blocks is in the set."""
        stop = min(stop, self.count)
        return first < stop and self._next(first, stop, True) < stop

    def runs(self, first: int = 0, stop: int | None = None) -> Iterator[Run]:
        """Yield the runs of blocks in the set from first to stop, in order.

        Meanwhile only blocks that were yielded may be added or removed.
        """
        stop = self.count if stop is None else min(stop, self.count)
        while first < stop:
            first = self._next(first, stop, True)
            if first >= stop:
                return
            end = self._next(first, stop, False)
            yield first, end
            first = end

    def _next(self, index: int, stop: int, present: bool) -> int:
        """Return the first block from index on that is in the set (or not), stop if there is none."""
        rest = self._bits[index >> 3] if present else self._bits[index >> 3] ^ 0xFF
        rest = rest >> (index & 7) << (index & 7)
        byte = index >> 3
        if not rest:
            match = (_NOT_ZERO if present else _NOT_ONES).search(self._bits, byte + 1, (stop + 7) >> 3)
            if match is None:
                return stop
            byte = match.start()
            rest = self._bits[byte] if present else self._bits[byte] ^ 0xFF
        return min(stop, byte * 8 + (rest & -rest).bit_length() - 1)

    def _assign(self, first: int, stop: int, value: bool) -> None:
        if first >= stop:
            return
        low, high = first >> 3, (stop - 1) >> 3
        head = 0xFF << (first & 7) & 0xFF  # bits of the first byte that count
        tail = 0xFF >> (7 - ((stop - 1) & 7))  # of the last
        if low == high:
            self._mask(low, head & tail, value)
            return
        self._mask(low, head, value)
        self._mask(high, tail, value)
        if low + 1 < high:
            before = int.from_bytes(self._bits[low + 1 : high], "little").bit_count()
            size = high - low - 1
            self._bits[low + 1 : high] = (b"\xff" if value else b"\0") * size
            self._length += (size * 8 if value else 0) - before

    def _mask(self, byte: int, mask: int, value: bool) -> None:
        before = self._bits[byte]
        after = before | mask if value else before & ~mask
        self._bits[byte] = after
        self._length += after.bit_count() - before.bit_count()


def append(runs: list[Run], first: int, stop: int) -> None:
    """Append a run; one that continues the last run extends it."""
    if runs and runs[-1][1] == first:
        runs[-1] = (runs[-1][0], stop)
    else:
        runs.append((first, stop))


def joined(runs: Iterable[Run]) -> list[Run]:
    """Return the runs in order; those that touch or overlap are joined."""
    out: list[Run] = []
    for first, stop in sorted(runs):
        if out and first <= out[-1][1]:
            out[-1] = (out[-1][0], max(stop, out[-1][1]))
        else:
            out.append((first, stop))
    return out


def without(runs: Iterable[Run], taken: Iterable[Run]) -> Iterator[Run]:
    """Yield the parts of runs that are not in taken; both in order, none overlapping."""
    cuts = iter(taken)
    cut = next(cuts, None)
    for start, stop in runs:
        first = start
        while cut is not None and cut[1] <= first:
            cut = next(cuts, None)
        while cut is not None and cut[0] < stop:
            if first < cut[0]:
                yield first, cut[0]
            first = cut[1]
            if first >= stop:
                break  # this cut may reach into the next run
            cut = next(cuts, None)
        if first < stop:
            yield first, stop


def changed(before: bytes, after: bytes, first: int) -> Iterator[Run]:
    """Yield the runs of blocks whose digests differ; those that `before` has no digest of do.

    Both are digests in block order, of block `first` and those that follow.
    """
    if before == after:
        return
    both = min(len(before), len(after))
    wide = _CLUSTER * BYTES_OF_DIGEST
    start = -1  # of the run that is open, a place in the digests
    for cluster in range(0, both, wide):
        end = min(cluster + wide, both)
        if before[cluster:end] == after[cluster:end]:
            if start >= 0:
                yield first + start // BYTES_OF_DIGEST, first + cluster // BYTES_OF_DIGEST
                start = -1
            continue
        for place in range(cluster, end, BYTES_OF_DIGEST):
            if before[place : place + BYTES_OF_DIGEST] != after[place : place + BYTES_OF_DIGEST]:
                start = place if start < 0 else start
            elif start >= 0:
                yield first + start // BYTES_OF_DIGEST, first + place // BYTES_OF_DIGEST
                start = -1
    if start < 0 and len(after) > both:
        start = both
    if start >= 0:
        yield first + start // BYTES_OF_DIGEST, first + len(after) // BYTES_OF_DIGEST
