"""How much of each part of a volume changed from version to version, found in digest files.

A digest file has 16 bytes a block and may have hundreds of MiB: each is read once, a window of
all of them at a time.
"""

import bisect
import contextlib
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from blockdiff.blocks import blockset
from blockdiff.errors import BlockdiffError
from blockdiff.formats import digestfile
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.catalogue import Entry
from blockdiff.sets.digests import Digests, open_digests
from blockdiff.sets.expected import SMALL

COLUMNS = 256  # at most
_WINDOW = 16384  # digests of a version that are in memory


@dataclass(frozen=True)
class Row:
    """What a version changed of the version before it in the map or, for the first, before the map."""

    number: int
    changed: int  # blocks
    blocks: int  # of the volume
    parts: tuple[float | None, ...]  # 0 to 1, of each part of the volume; None: the volume ends before it


@dataclass(frozen=True)
class ChangeMap:
    """The newest versions, oldest first, against parts of the largest of their volumes."""

    rows: list[Row]
    blocks: int
    block_size: int  # bytes


def change_map(backup_set: BackupSet, entries: Sequence[Entry], most: int) -> ChangeMap | None:
    """Return the map of up to `most` of these versions; None if there are no two to compare.

    Versions whose digest file cannot be read, or has another block size than the newest, are left out.
    """
    known = [entry for entry in entries if entry.blocks]
    usable = [entry for entry in known if entry.block_size == known[-1].block_size]
    with contextlib.ExitStack() as stack:
        opened = []
        backup_set.place.soon(
            (backup_set.path(entry.number, ".md5") for entry in usable[-most - 1 :]), SMALL, digestfile.HEADER_SIZE
        )
        for entry in usable[-most - 1 :]:
            with contextlib.suppress(BlockdiffError):
                _, digests = open_digests(backup_set.path(entry.number, ".md5"), opener=backup_set.place.open)
                opened.append((entry.number, stack.enter_context(digests)))
        if len(opened) < 2:
            return None
        with contextlib.suppress(BlockdiffError):  # one that is cut off meanwhile
            return ChangeMap(*_compared(opened), usable[-1].block_size)
    return None


def _compared(opened: Sequence[tuple[int, Digests]]) -> tuple[list[Row], int]:
    count = max(digests.count for _, digests in opened)
    columns = min(COLUMNS, count)
    edges = [math.ceil(column * count / columns) for column in range(columns + 1)]
    found = [[0] * columns for _ in opened]
    for first in range(0, count, _WINDOW):
        before = _taken(opened[0][1], first)
        for place, (_, digests) in enumerate(opened[1:], 1):
            after = _taken(digests, first)
            for start, stop in blockset.changed(before, after, first):
                _count(found[place], edges, start, stop)
            before = after
    rows = []
    for (number, digests), changed in list(zip(opened, found, strict=True))[1:]:
        sizes = [min(end, digests.count) - start for start, end in itertools.pairwise(edges)]
        parts = [share / size if size > 0 else None for share, size in zip(changed, sizes, strict=True)]
        rows.append(Row(number, sum(changed), digests.count, tuple(parts)))
    return rows, count


def _taken(digests: Digests, first: int) -> bytes:
    count = min(_WINDOW, digests.count - first)
    return digests.take(first, count) if count > 0 else b""


def _count(changed: list[int], edges: list[int], start: int, stop: int) -> None:
    """Add a run of blocks to the parts that it is in."""
    column = bisect.bisect_right(edges, start) - 1
    while start < stop:
        end = min(stop, edges[column + 1])
        changed[column] += end - start
        start, column = end, column + 1
