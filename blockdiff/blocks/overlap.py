"""How many of the blocks that several versions changed are the same ones, from samples of their digest files.

This is what a prune decides by before it rewrites a version: of a volume of any size no more than
a few hundred KiB of digests are read a version.
"""

from collections.abc import Sequence

from blockdiff.blocks import blockset
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.digests import open_digests

_SAMPLES = 8  # windows of the volume
_WINDOW = 512  # blocks in each


def share(backup_set: BackupSet, onto: int | None, path: Sequence[int]) -> float:
    """Return how much of what versions in `path` changed is left once each block is stored only once: 0 to 1.

    `onto`: the version before the first of them, None if that is a full.  1 if the samples show no
    change at all.  Raises MissingFile, DamagedFile, NotOurFormat or StoreUnreadable.
    """
    windows = _windows(backup_set, path[-1])
    before = None if onto is None else _digests(backup_set, onto, windows)
    changed = [blockset.Blocks(stop - first) for first, stop in windows]
    records = 0
    for number in path:
        after = _digests(backup_set, number, windows)
        for place, data in enumerate(after):
            old = b"" if before is None else before[place]
            for first, stop in blockset.changed(old, data, 0):
                changed[place].add(first, stop)
                records += stop - first
        before = after
    return sum(map(len, changed)) / records if records else 1.0


def _windows(backup_set: BackupSet, number: int) -> list[blockset.Run]:
    """Return the blocks that are looked at, spread over a version's volume."""
    _, digests = open_digests(backup_set.path(number, ".md5"))
    digests.close()
    count = digests.count
    if count <= _SAMPLES * _WINDOW:
        return [(0, count)] if count else []
    starts = [place * (count - _WINDOW) // (_SAMPLES - 1) for place in range(_SAMPLES)]
    return [(start, start + _WINDOW) for start in starts]


def _digests(backup_set: BackupSet, number: int, windows: Sequence[blockset.Run]) -> list[bytes]:
    """Return a version's digests of these blocks, as far as it has them."""
    _, digests = open_digests(backup_set.path(number, ".md5"))
    with digests:
        return [
            digests.take(first, min(stop, digests.count) - first) if first < digests.count else b""
            for first, stop in windows
        ]
