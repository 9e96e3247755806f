"""Which blocks are read together, and when the kernel is asked for them.

An extent is a run of neighbouring blocks: a part of a hole or of what a hint leaves out, which
are not read, or what is read at once.
"""

import collections

from blockdiff.formats import digestfile
from blockdiff.wire import messages

EXTENT_SIZE = 1024 * 1024  # bytes read at once, unless one block is larger
READ_AHEAD = 4 * 1024 * 1024  # bytes that are asked for before they are read
_MOST_AHEAD = 32  # extents
HOLE_BLOCKS = messages.MAX_RUNS  # blocks in one extent that is not read: each may become a run


class Extent(collections.namedtuple("Extent", "first count offset length hole kept audit")):
    """Neighbouring blocks: of a hole, or kept as the parent has them; with `audit` they are read all the same."""

    __slots__ = ()

    @property
    def unread(self):
        """Return whether it is not read."""
        return (self.hole or self.kept) and not self.audit


def blocks_read(block_size):
    """Return how many blocks are read at once."""
    return max(1, min(EXTENT_SIZE // block_size, messages.MAX_RUNS))


def plan(volume, block_size):
    """Yield the extents of a volume, in block order; a hole counts only where it has whole blocks."""
    per_read = blocks_read(block_size)
    total = digestfile.blocks_of(volume.size, block_size)
    index = 0
    for start, end, is_hole in volume.regions():
        if is_hole:
            # only blocks that are whole in the hole; the volume's last one may be short
            last = total if end == volume.size else end // block_size
            first = max(index, -(-start // block_size))
        else:
            last = min(total, -(-end // block_size))
            first = index
        if is_hole and first < last:
            for extent in _cut(volume, block_size, index, first, per_read):
                yield extent
            for extent in _cut(volume, block_size, first, last, HOLE_BLOCKS, hole=True):
                yield extent
            index = last
        elif not is_hole and index < last:
            for extent in _cut(volume, block_size, index, last, per_read):
                yield extent
            index = last
    for extent in _cut(volume, block_size, index, total, per_read):
        yield extent


def hinted(volume, block_size, stretches):
    """Yield the extents of a volume whose blocks are treated as (first, last, how, audit) of selection.py."""
    per_read = blocks_read(block_size)
    for first, last, how, audit in stretches:
        most = per_read if audit or how == "read" else HOLE_BLOCKS
        for extent in _cut(volume, block_size, first, last, most, how == "hole", how == "kept", audit):
            yield extent


def _cut(volume, block_size, first, last, most, hole=False, kept=False, audit=False):
    for index in range(first, last, most):
        count = min(most, last - index)
        offset = index * block_size
        length = min(count * block_size, volume.size - offset)
        yield Extent(index, count, offset, length, hole, kept, audit)


def ahead(volume, extents):
    """Yield (Extent, its pages to drop after use), while the kernel fetches the extents that follow."""
    waiting = collections.deque()
    fetching = 0  # bytes
    for extent in extents:
        fetched = [] if extent.unread else volume.cache.fetch(extent.offset, extent.length)
        waiting.append((extent, fetched))
        fetching += extent.length if fetched else 0
        # extents in memory, and what is not read, are not delayed
        while waiting and (not waiting[0][1] or fetching > READ_AHEAD or len(waiting) > _MOST_AHEAD):
            first = waiting.popleft()
            fetching -= first[0].length if first[1] else 0
            yield first
    for first in waiting:
        yield first
