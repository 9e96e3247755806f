"""How many of the blocks that several versions changed are the same ones, from samples of their digest files.

This is what a prune decides by before it rewrites a version: of a volume of any size 32 KiB of
digests are read a version.  The samples are many and small, so that they also meet what changes in one
place, such as a log: that is where versions have most in common.
"""

from collections.abc import Sequence

from blockdiff.blocks import blockset
from blockdiff.blocks.blockset import Run
from blockdiff.formats import BYTES_OF_DIGEST
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.digests import open_digests

_SAMPLES = 128  # places in the volume
_WINDOW = 16  # blocks at each


def share(backup_set: BackupSet, onto: int | None, path: Sequence[int]) -> float:
    """Return how much of what versions in `path` changed is left once each block is stored only once: 0 to 1.

    `onto`: the version before the first of them, None if that is a full.  1 if the samples show no
    change at all.  Raises MissingFile, DamagedFile, NotOurFormat or StoreUnreadable.
    """
    windows = _windows(backup_set, path[-1])
    before = b"" if onto is None else _digests(backup_set, onto, windows)
    changed = blockset.Blocks(sum(stop - first for first, stop in windows))
    records = 0
    for number in path:
        after = _digests(backup_set, number, windows)
        for first, stop in blockset.changed(before, after, 0):
            changed.add(first, stop)
            records += stop - first
        before = after
    return len(changed) / records if records else 1.0


def _windows(backup_set: BackupSet, number: int) -> list[Run]:
    """Return the blocks that are looked at, spread over a version's volume."""
    _, digests = open_digests(backup_set.path(number, ".md5"), opener=backup_set.place.open)
    digests.close()
    count = digests.count
    if count <= _SAMPLES * _WINDOW:
        return [(0, count)] if count else []
    starts = [place * (count - _WINDOW) // (_SAMPLES - 1) for place in range(_SAMPLES)]
    return [(start, start + _WINDOW) for start in starts]


def _digests(backup_set: BackupSet, number: int, windows: Sequence[Run]) -> bytes:
    """Return a version's digests of these blocks, joined; zeros where it has no such block."""
    _, digests = open_digests(backup_set.path(number, ".md5"), opener=backup_set.place.open)
    with digests:
        out = bytearray()
        for first, stop in windows:
            count = max(0, min(stop, digests.count) - first)
            out += digests.take(first, count) if count else b""
            out += bytes((stop - first - count) * BYTES_OF_DIGEST)
        return bytes(out)
