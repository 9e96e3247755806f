"""Restore one version: the blocks of a chain's diff files, written to a target.

The newest version is read first and every block is written once.  A version is finished
before the next older one is opened, so that it is known which blocks are still wanted.
Within a version, pieces of its diff file are worked on in parallel.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Protocol

from blockdiff.blocks import blockset, changes, checker, diffreader, parallel
from blockdiff.errors import (
    BlockdiffError,
    ChainBroken,
    DigestMismatch,
    Interrupted,
    NotOurFormat,
    StoreUnreadable,
)
from blockdiff.formats import FormatError
from blockdiff.sets import digests, versions
from blockdiff.sets.version import VersionFiles


class Sink(Protocol):
    """Where blocks are written, from several threads."""

    def write(self, offset: int, parts: list[memoryview]) -> None:
        """Write the parts, one after the other, at offset (bytes)."""

    def zero(self, offset: int, length: int) -> None:
        """Make these bytes zeros."""

    def stop(self) -> None:
        """End calls that wait, from another thread: the run is interrupted."""


@dataclass
class _Placed:
    """What was done with a piece."""

    right: list[blockset.Run] = field(default_factory=list)  # blocks that are proved and written
    written: int = 0  # bytes
    zeros: int = 0  # bytes
    wrong: list[blockset.Run] = field(default_factory=list)  # blocks that do not have their digest
    faults: checker.Faults = field(default_factory=checker.Faults)  # records that cannot be
    failure: FormatError | None = None  # the piece cannot be read at all
    last_length: int | None = None  # bytes of the volume's last block, where it was here


class Restorer:
    """Writes the blocks of one version, and counts what was written."""

    def __init__(
        self,
        name: str,
        links: list[VersionFiles],
        sink: Sink,
        progress: Callable[[int], object] = lambda length: None,
    ) -> None:
        """`name`: the set's.  `links`: the versions to read, oldest first; the last one is the one that is wanted."""
        self._name, self._links, self._sink, self._progress = name, links, sink, progress
        self._version = links[-1].version
        self._count, self._block_size = self._version.count, self._version.block_size
        self._wanted = blockset.Blocks(self._count, full=True)
        self._last_length = diffreader.last_length(self._version)
        self._failure: BlockdiffError | None = None
        self._go_on = False
        self._limited = False  # not every block is wanted
        self.read = 0  # bytes of diff files
        self.written = 0  # bytes
        self.zeros = 0  # bytes that are zero
        self.warnings: list[str] = []
        self.own_whole = False  # all records that the wanted version's own diff file must have were there and right

    def only(self, wanted: blockset.Blocks) -> None:
        """Write only these blocks; the others are right already."""
        self._wanted, self._limited = wanted, len(wanted) < self._count

    def run(self, threads: int, go_on: bool = False) -> None:
        """Write every block, with `threads` threads.

        Raises BlockdiffError at the first damage that hits what is needed, with `go_on` when
        no more can be written.
        """
        self._go_on = go_on
        with (
            digests.Digests(self._links[-1].digests, self._count, self._links[-1].open) as known,
            ThreadPoolExecutor(threads, thread_name_prefix="restore") as pool,
        ):
            self._checker = checker.BlockChecker(known, self._block_size)
            try:
                self._read_all(pool)
            except BlockdiffError as error:
                if not self._forget_indexes():
                    raise
                told, self._failure, self.warnings = self.warnings, None, []
                try:
                    self._read_all(pool)
                    self.own_whole = False  # an index of it is not right
                except BlockdiffError:  # it was no index: the files are damaged
                    self.warnings = told
                    raise error from None

    def _read_all(self, pool: ThreadPoolExecutor) -> None:
        for files in reversed(self._links):
            if not self._wanted:
                break
            self._read(files, pool)
            if files is self._links[-1]:
                must = self._recorded(files, (0, self._count))
                self.own_whole = not self._limited and not any(self._wanted.any(*run) for run in must)
        if self._wanted:
            lost = f"no version of its chain has {self._spell(self._wanted.runs())}"
            raise self._failure or ChainBroken(self._version.number, self._name, lost)

    def _forget_indexes(self) -> bool:
        """Use no index beside a diff file other than the one that the manifest lists; return whether there was one.

        Only after damage: whether an index is of such a file shows when the whole file is hashed.
        """
        links = [replace(f, index=None) if f.index and not versions.is_listed(f) else f for f in self._links]
        changed = links != self._links
        self._links = links
        return changed

    def size(self) -> int:
        """Return the volume's size in bytes, as soon as its last block is written."""
        return self._bytes((0, self._count))[1] if self._count else 0

    def right(self) -> Iterator[tuple[int, int]]:
        """Yield what is written and proved: where it begins and ends in the volume, in bytes."""
        for run in blockset.without([(0, self._count)] if self._count else [], self._wanted.runs()):
            yield self._bytes(run)

    def _bytes(self, run: blockset.Run) -> tuple[int, int]:
        """Return where a run of blocks begins and ends in the volume."""
        end = run[1] * self._block_size
        if run[1] == self._count and self._last_length is not None:
            end += self._last_length - self._block_size
        return run[0] * self._block_size, end

    def _spell(self, runs: Iterator[blockset.Run]) -> str:
        start, end = self._bytes(next(runs))
        return f"bytes {start} to {end - 1}" + (" and others" if next(runs, None) else "")

    # a version

    def _read(self, files: VersionFiles, pool: ThreadPoolExecutor) -> None:
        everything = (0, files.version.count)
        try:
            with diffreader.DiffFile(files.diff, files.index, files.version, opener=files.open) as file:
                work = functools.partial(self._place, file)
                rows = parallel.in_order(pool, file.pieces(self._wanted.any), work)
                try:
                    with contextlib.closing(rows):  # which waits for what is being written
                        try:
                            for piece, placed in rows:
                                self._take(files, piece, placed)
                        except Interrupted:
                            self._sink.stop()
                            raise
                finally:
                    self.read += file.read
        except FormatError as error:
            self._fault(files, everything, diffreader.damage(files.diff, error))
        except OSError as error:
            self._fault(files, everything, StoreUnreadable(files.diff, error.strerror))

    def _take(self, files: VersionFiles, piece: diffreader.Piece, placed: _Placed) -> None:
        for run in placed.right:
            self._wanted.remove(*run)
        if placed.last_length is not None:
            self._last_length = placed.last_length
        self.written += placed.written
        self.zeros += placed.zeros
        self._progress(placed.written + placed.zeros)
        reach = piece.run or (0, files.version.count)
        where = f"{files.diff}: {piece.where}"
        if placed.failure is not None:
            self._fault(files, reach, diffreader.damage(where, placed.failure))
        for line in placed.faults.lines():
            self._fault(files, reach, NotOurFormat(where, line))
        for run in placed.wrong:
            what = f"{self._spell(iter([run]))} do not have the digests of version {self._version.number}"
            self._fault(files, run, DigestMismatch(files.diff, what))

    def _fault(self, files: VersionFiles, reach: blockset.Run, error: BlockdiffError) -> None:
        """Stop for damage among these blocks of a version, unless none of them is still wanted from it."""
        if not any(self._wanted.any(*run) for run in self._recorded(files, reach)):
            self.warnings.append(f"{error}; this version does not need it")
            return
        error.hint = error.hint or "blockdiff-verify lists what is lost and which versions still restore"
        if not self._go_on:
            raise error
        self._failure = self._failure or error
        self.warnings.append(str(error))

    def _recorded(self, files: VersionFiles, reach: blockset.Run) -> Iterator[blockset.Run]:
        """Yield the blocks among these that a version's diff file must have records of.

        All of them where a digest file that shows it is damaged or gone.
        """
        place, version = self._links.index(files), files.version
        before = self._links[place - 1] if place else None
        if version.parent is None or before is None or before.version.number != version.parent:
            yield reach[0], min(reach[1], version.count)
            return
        try:
            with (
                digests.Digests(before.digests, before.version.count, before.open) as old,
                digests.Digests(files.digests, version.count, files.open) as new,
            ):
                yield from changes.changed(old, new, *reach)
        except BlockdiffError:
            yield reach[0], min(reach[1], version.count)

    # in the pool

    def _place(self, file: diffreader.DiffFile, piece: diffreader.Piece) -> _Placed:
        out = _Placed()
        parts: list[memoryview] = []
        begin = after = 0  # blocks of `parts`, which are not written yet
        zeros = (0, 0)  # blocks that are not zeroed yet

        def flush() -> None:
            if parts:
                self._sink.write(begin * self._block_size, parts)
                out.right.append((begin, after))
                parts.clear()

        try:
            for kind, first, stop, block in self._checker.check(file, piece, out.faults, self._wanted):
                if kind == checker.WRONG:
                    out.wrong.append((first, stop))
                    continue
                if kind == checker.ZERO:
                    if first != zeros[1]:
                        self._zero(zeros, out)
                        zeros = (first, first)
                    zeros = (zeros[0], stop)
                else:
                    if first != after:
                        flush()
                    if not parts:
                        begin = first
                    parts.append(block)
                    out.written += len(block)
                    after = stop
                if stop == self._count:
                    out.last_length = len(block) or self._block_size
        except FormatError as error:
            out.failure = error
            return out
        flush()
        self._zero(zeros, out)
        return out

    def _zero(self, run: blockset.Run, out: _Placed) -> None:
        if run[0] < run[1]:
            length = (run[1] - run[0]) * self._block_size
            self._sink.zero(run[0] * self._block_size, length)
            out.zeros += length
            out.right.append(run)
