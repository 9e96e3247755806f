"""Which blocks are read together: all of them once, in order, and asked for a bounded distance ahead."""

import os

from files import sparse
from residency import MIB, SIZE, warm

from agent import extents, volume
from blockdiff.formats import digestfile


def test_the_plan_covers_every_block_once(tmp_path):
    file = tmp_path / "volume"
    sparse(file, 30 * MIB + 17, 0, 9 * MIB + 5, 20 * MIB)
    source = volume.Volume(os.fsencode(file))
    for block_size in (1000, 4096, MIB, 7 * MIB):
        index = 0
        for extent in extents.plan(source, block_size):
            assert (extent.first, extent.offset) == (index, index * block_size)
            assert extent.length == min(extent.count * block_size, source.size - extent.offset)
            assert extent.hole or extent.length <= max(extents.EXTENT_SIZE, block_size)
            index += extent.count
        assert index == digestfile.blocks_of(source.size, block_size)
    source.close()


def test_what_is_read_next_is_asked_for_before(cold, monkeypatch):
    """And never more than a bounded distance ahead."""
    source = volume.Volume(os.fsencode(cold))
    asked = []
    fetch = source.cache.fetch
    monkeypatch.setattr(source.cache, "fetch", lambda *bytes_: asked.append(bytes_) or fetch(*bytes_))
    distances = []
    for extent, _ in extents.ahead(source, extents.plan(source, 65536)):
        distances.append(sum(asked[-1]) - extent.offset - extent.length)
    source.close()
    assert max(distances) == extents.READ_AHEAD and distances[-1] == 0


def test_a_long_row_of_what_is_in_memory_is_not_gathered(cold, monkeypatch):
    monkeypatch.setattr(extents, "_MOST_AHEAD", 6)
    warm(cold, [(MIB, SIZE - MIB)])
    source = volume.Volume(os.fsencode(cold))
    planned = extents.plan(source, 4096)
    ahead = extents.ahead(source, planned)
    next(ahead)
    assert next(planned).first * 4096 == 7 * MIB
    ahead.close()
    source.close()
