"""The versions of a part of a chain, merged: a record of every block that any of them has a record of.

The content is that of the newest record.  A rewritten version keeps also the records of blocks
that went back to what they were before: with them every mix of old and new files restores, also
where another program merges all versions that are there.
The merge goes through the volume once.  Of each version one member is held, and what is next is
in the member of whichever version ends first.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from blockdiff import codecs
from blockdiff.blocks import blockset, changes, checker
from blockdiff.blocks.checker import BlockChecker, Checked
from blockdiff.errors import DamagedFile, DigestMismatch
from blockdiff.formats import difffile
from blockdiff.ingest import members
from blockdiff.ingest.members import MadeMember
from blockdiff.rewriting import source
from blockdiff.rewriting.packer import Packer
from blockdiff.rewriting.source import Room, Source
from blockdiff.sets.digests import Digests
from blockdiff.sets.newdiff import NewDiff
from blockdiff.sets.version import Version, VersionFiles

VERSIONS = 16  # that are merged at once
_ROW = 1000  # bytes of memory that a record takes beside its block, while it is checked


def most_payload(block_size: int) -> int:
    """Return how many bytes of payload a member has that is decompressed at once."""
    return members.most_records(block_size) * (difffile.OFFSET_SIZE + block_size)


def most_versions(block_size: int) -> int:
    """Return how many versions may be merged at once; small blocks take more memory than their bytes."""
    held = most_payload(block_size) + members.most_records(block_size) * _ROW
    return max(2, min(VERSIONS, source.HELD // held))


@dataclass
class Merged:
    """What a merge wrote."""

    records: blockset.Blocks  # of which the file has records
    zero: int  # how many of them are of zeros
    payload: int  # bytes
    copied: int  # bytes of members that were copied as they are
    last_length: int | None  # bytes of the volume's last block; None: there is no record of it
    read: int  # bytes of diff files


def merge(
    links: Sequence[VersionFiles],
    onto: Digests | None,
    out: NewDiff,
    pool: ThreadPoolExecutor,
    progress: Callable[[int], object],
) -> Merged:
    """Write the records of these versions, oldest first, as the last one's diff file.

    `onto`: digests of the version that it is to stand on; None: it becomes a full one, and the
    first of `links` is one.  Raises DamagedFile, DigestMismatch, NotOurFormat, StoreUnreadable,
    and what `out` raises.
    """
    version = links[-1].version
    codec = codecs.BY_SUFFIX[out.suffix]
    room = Room(most_payload(version.block_size), len(links))
    with contextlib.ExitStack() as cleanup:
        own = cleanup.enter_context(Digests(links[-1].digests, version.count))
        check = BlockChecker(own, version.block_size)
        sources = open_sources(
            links, check, pool, room, cleanup, suffix=out.suffix, full=onto is None, progress=progress
        )
        packer = Packer(out, codec, version, pool)
        for member, rows in walk(sources, version):
            if member is not None:
                packer.copy(member, rows)
            else:
                packer.add(rows)
        packer.close()
        _check_whole(links, packer.records, onto, own)
        read = sum(each.read for each in sources)
    return Merged(packer.records, packer.zero, packer.payload, packer.copied, packer.last_length, read)


def open_sources(
    links: Sequence[VersionFiles],
    check: BlockChecker,
    pool: ThreadPoolExecutor,
    room: Room,
    cleanup: contextlib.ExitStack,
    *,
    suffix: str | None,
    full: bool,
    progress: Callable[[int], object],
) -> list[Source]:
    """Return a source of each version, oldest first, which `cleanup` closes; `full`: the first is a full."""
    everything = blockset.Blocks(links[-1].version.count, full=True)
    sources = []
    for place, files in enumerate(links):
        wants: Callable[[int, int], bool] = everything.any
        if full and not place and len(links) > 1:
            old = cleanup.enter_context(Digests(files.digests, files.version.count, files.open))
            wants = _live(old, check.digests)
        source = Source(files, check, everything, pool, room, suffix=suffix, wants=wants, progress=progress)
        sources.append(cleanup.enter_context(source))
    return sources


def _live(old: Digests, own: Digests) -> Callable[[int, int], bool]:
    """Return whether a full has a block among these, first and stop, that is the same in the new version.

    The others must have a newer record, and a member without such a block need not be read.
    """

    def live(first: int, stop: int) -> bool:
        stop = min(stop, old.count, own.count)
        changed = sum(end - begin for begin, end in changes.changed(old, own, first, stop))
        return first < stop and changed < stop - first

    return live


def walk(sources: Sequence[Source], version: Version) -> Iterator[tuple[MadeMember | None, list[Checked]]]:
    """Yield the newest record of each block, in block order, and the member that may be copied for them.

    `sources` oldest first.
    """
    after = 0  # blocks below are done
    while live := [each for each in sources if each.skip(after)]:
        first = min(each.first for each in live)
        stop = min(each.end for each in live)
        for each in live:
            if first <= each.first < stop and (member := each.member()):
                if each.first == first:
                    stop = member.last + 1
                    yield member, each.take(stop)
                    break
                stop = each.first
        else:
            yield None, _newest([(each, each.take(stop)) for each in live], version)
        after = stop


def _newest(found: Iterable[tuple[Source, list[Checked]]], version: Version) -> list[Checked]:
    """Return the newest row of each block, in block order; `found` oldest first."""
    some = [(each, rows) for each, rows in found if rows]
    if len(some) == 1:
        for row in some[0][1]:
            _check_row(row, some[0][0], version)
        return some[0][1]
    newest: dict[int, tuple[Checked, Source]] = {}
    for each, rows in some:
        for row in rows:
            for index in range(row[1], row[2]):
                newest[index] = row, each
    out = []
    for index in sorted(newest):
        row, each = newest[index]
        _check_row(row, each, version)
        out.append((row[0], index, index + 1, row[3]))
    return out


def _check_row(row: Checked, each: Source, version: Version) -> None:
    if row[0] == checker.WRONG:
        start, end = row[1] * version.block_size, row[2] * version.block_size
        what = f"bytes {start} to {end - 1} do not have the digests of version {version.number}"
        raise DigestMismatch(each.path, what, hint=source.HINT)


def _check_whole(links: Sequence[VersionFiles], records: blockset.Blocks, onto: Digests | None, own: Digests) -> None:
    """Make sure that there is a record of every block that must have one.  Raises DamagedFile."""
    version = links[-1].version
    for run in changes.changed(onto, own):
        for first, stop in blockset.without([run], records.runs(*run)):
            lost = f"bytes {first * version.block_size} to {stop * version.block_size - 1} are missing"
            what = f"{lost} in it and in those before"
            raise DamagedFile(links[-1].diff, what, hint=source.HINT)
