"""Which blocks a version must have records of: those that differ from the version before."""

from collections.abc import Iterator

from blockdiff.blocks import blockset
from blockdiff.blocks.blockset import Run
from blockdiff.sets.digests import Digests

_COMPARED = 16384  # digests that are compared at once


def changed(before: Digests | None, after: Digests, first: int = 0, stop: int | None = None) -> Iterator[Run]:
    """Yield the blocks from first to stop that a version must have records of, as runs in order.

    `before` are the digests of the version that it continues, None if it is a full one.
    """
    stop = after.count if stop is None else min(stop, after.count)
    if before is None:
        if first < stop:
            yield first, stop
        return
    while first < stop:
        count = min(_COMPARED, stop - first)
        known = max(0, min(count, before.count - first))
        yield from blockset.changed(before.take(first, known) if known else b"", after.take(first, count), first)
        first += count
