"""Which blocks a version must have records of, in whatever pieces the digests are compared."""

import os

import chains
import pytest

from blockdiff.blocks import changes
from blockdiff.sets.digests import Digests

BLOCK = 16


@pytest.mark.parametrize("at_once", [1, 3, 16384])
@pytest.mark.parametrize("blocks", [4, 10, 13], ids=["shrunk", "as large", "grown"])
def test_changed_blocks_are_those_whose_digests_differ(at_once, blocks, tmp_path, monkeypatch):
    monkeypatch.setattr(changes, "_COMPARED", at_once)
    backup_set = chains.new_set(tmp_path)
    old = os.urandom(10 * BLOCK)
    new = bytearray((old + os.urandom(10 * BLOCK))[: blocks * BLOCK])
    new[2 * BLOCK] ^= 1
    new[3 * BLOCK] ^= 1
    chains.write_version(backup_set, old, BLOCK)
    chains.write_version(backup_set, bytes(new), BLOCK)
    expected = {2, 3, *range(10, blocks)}

    with Digests(backup_set.path(1, ".md5"), 10) as before, Digests(backup_set.path(2, ".md5"), blocks) as after:
        for first, stop in ((0, None), (3, None), (1, 3), (0, 99)):
            got = {i for run in changes.changed(before, after, first, stop) for i in range(*run)}
            assert got == {i for i in expected if first <= i < (stop or 99)}
        assert list(changes.changed(None, after)) == [(0, blocks)]
        assert list(changes.changed(None, after, 2, 2)) == []
