"""Blocks on their way from the diff files of a chain into a target.

The newest version is read first and every block is written once.  Between two versions
nothing is in flight, so that whatever a newer one held is known before an older one is
looked at; within one, members are worked on in parallel.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from blockdiff.blocks import blockset, changes, diffreader, parallel
from blockdiff.blocks.checker import BlockChecker
from blockdiff.errors import BlockdiffError, ChainBroken, DamagedFile, DigestMismatch, NotOurFormat, StoreUnreadable
from blockdiff.formats import FormatError, TornError
from blockdiff.sets import digests
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.version import Version

# given the bytes to come, it gives a function to be told of those that are done
Progress = Callable[[int], contextlib.AbstractContextManager[Callable[[int], object]]]


def silent(total_bytes: int) -> contextlib.AbstractContextManager[Callable[[int], object]]:
    """Show no progress."""
    return contextlib.nullcontext(lambda done_bytes: None)


class Sink(Protocol):
    """Where blocks are written, from several threads."""

    def write(self, offset: int, parts: list[memoryview]) -> None:
        """Write the parts, one after the other, at offset (bytes)."""

    def zero(self, offset: int, length: int) -> None:
        """Let these bytes be zeros."""


@dataclass
class _Placed:
    """What became of a piece."""

    right: list[blockset.Run] = field(default_factory=list)  # blocks that are proved and written
    written: int = 0  # bytes
    zeros: int = 0  # bytes
    wrong: list[blockset.Run] = field(default_factory=list)  # blocks that do not have their digest
    faults: diffreader.Faults = field(default_factory=diffreader.Faults)  # records that cannot be
    failure: FormatError | None = None  # the piece cannot be read at all
    last_length: int | None = None  # bytes of the volume's last block, where it was here


class Restorer:
    """One version's blocks, as far as they are placed."""

    def __init__(
        self,
        store: BackupSet,
        links: list[Version],
        sink: Sink,
        progress: Callable[[int], object] = lambda length: None,
    ) -> None:
        """`links`: the versions to read, oldest first; the last one is the one that is wanted."""
        self._store, self._links, self._sink, self._progress = store, links, sink, progress
        self._version = links[-1]
        self._count, self._block_size = self._version.count, self._version.block_size
        self._wanted = blockset.Blocks(self._count, full=True)
        self._last_length = diffreader.last_length(self._version)
        self._failure: BlockdiffError | None = None
        self._go_on = False
        self.read = 0  # bytes of diff files
        self.written = 0  # bytes
        self.zeros = 0  # bytes that are zero
        self.warnings: list[str] = []

    def run(self, jobs: int, go_on: bool = False) -> None:
        """Place every block, with so many threads.

        Raises BlockdiffError at the first damage that hits what is needed, with `go_on` when
        nothing more can be placed.
        """
        self._go_on = go_on
        with (
            digests.Digests(self._store.path(self._version.number, ".md5"), self._count) as known,
            ThreadPoolExecutor(jobs, thread_name_prefix="restore") as pool,
        ):
            self._proof = BlockChecker(known, self._block_size)
            for version in reversed(self._links):
                if not self._wanted:
                    break
                self._read(version, pool)
        if self._wanted:
            lost = f"no version of its chain holds {self._spell(self._wanted.runs())}"
            raise self._failure or ChainBroken(self._version.number, self._store.name, lost)

    def size(self) -> int:
        """Return the volume's size in bytes, as soon as its last block is placed."""
        return self._bytes((0, self._count))[1] if self._count else 0

    def right(self) -> Iterator[tuple[int, int]]:
        """Yield what is placed and proved: where it begins and ends in the volume, in bytes."""
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

    def _read(self, version: Version, pool: ThreadPoolExecutor) -> None:
        everything = (0, version.count)
        path = self._store.path(version.number, version.suffix)
        try:
            with diffreader.DiffFile(self._store, version) as file:
                work = functools.partial(self._place, file)
                rows = parallel.in_order(pool, file.pieces(self._wanted.any), work)
                try:
                    with contextlib.closing(rows):
                        for piece, placed in rows:
                            self._take(version, piece, placed)
                finally:
                    self.read += file.read
        except FormatError as error:
            self._fault(version, everything, damage(path, error))
        except OSError as error:
            self._fault(version, everything, StoreUnreadable(path, error.strerror))

    def _take(self, version: Version, piece: diffreader.Piece, placed: _Placed) -> None:
        for run in placed.right:
            self._wanted.remove(*run)
        if placed.last_length is not None:
            self._last_length = placed.last_length
        self.written += placed.written
        self.zeros += placed.zeros
        self._progress(placed.written + placed.zeros)
        path = self._store.path(version.number, version.suffix)
        reach = piece.run or (0, version.count)
        if placed.failure is not None:
            self._fault(version, reach, damage(f"{path}: {piece.where}", placed.failure))
        for line in placed.faults.lines():
            self._fault(version, reach, NotOurFormat(f"{path}: {piece.where}", line))
        for run in placed.wrong:
            what = f"what it holds of {self._spell(iter([run]))} is not what version {self._version.number} has there"
            self._fault(version, run, DigestMismatch(path, what))

    def _fault(self, version: Version, reach: blockset.Run, error: BlockdiffError) -> None:
        """Stop for damage among these blocks of a version, unless nothing that is still wanted is hit."""
        if not any(self._wanted.any(*run) for run in self._held(version, reach)):
            self.warnings.append(f"{error}; this version does not need it")
            return
        error.hint = error.hint or "blockdiff-verify tells what is lost and which versions still restore"
        if not self._go_on:
            raise error
        self._failure = self._failure or error
        self.warnings.append(str(error))

    def _held(self, version: Version, reach: blockset.Run) -> Iterator[blockset.Run]:
        """Yield the blocks among these that a version's diff file must hold."""
        place = self._links.index(version)
        before = self._links[place - 1] if place else None
        if version.full or before is None or before.number != version.number - 1:
            yield reach[0], min(reach[1], version.count)
            return
        with (
            digests.Digests(self._store.path(before.number, ".md5"), before.count) as old,
            digests.Digests(self._store.path(version.number, ".md5"), version.count) as new,
        ):
            yield from changes.changed(old, new, *reach)

    # in the pool

    def _place(self, file: diffreader.DiffFile, piece: diffreader.Piece) -> _Placed:
        out = _Placed()
        if piece.zeros is not None:
            self._place_zeros(piece.zeros, out)
            return out
        try:
            payload = file.payload(piece)
        except FormatError as error:
            out.failure = error
            return out
        proof = self._proof
        window = proof.digests.window()
        parts: list[memoryview] = []
        view = memoryview(payload)
        begin = after = 0  # blocks of the parts that wait to be written

        def flush() -> None:
            if parts:
                self._sink.write(begin * self._block_size, parts)
                out.right.append((begin, after))
                parts.clear()

        zeros = (0, 0)  # blocks that wait to be zeroed
        for index, start, end in diffreader.split(payload, piece, file.version, out.faults):
            if index >= self._count or index not in self._wanted:
                continue
            want = window.of(index)
            if proof.is_zero(payload, start, end, want):
                if index != zeros[1]:
                    self._zero(zeros, out)
                    zeros = (index, index)
                zeros = (zeros[0], index + 1)
            elif not proof.has(view[start:end], want):
                out.wrong.append((index, index + 1))
                continue
            else:
                if index != after:
                    flush()
                    begin = index
                elif not parts:
                    begin = index
                parts.append(view[start:end])
                out.written += end - start
                after = index + 1
            if index == self._count - 1:
                out.last_length = end - start
        flush()
        self._zero(zeros, out)
        return out

    def _place_zeros(self, run: blockset.Run, out: _Placed) -> None:
        """Place whole blocks of zeros that nobody had to decompress."""
        for first, stop in self._wanted.runs(*run):
            wrong = list(self._proof.not_zero(first, stop))
            out.wrong += wrong
            for part in blockset.without([(first, stop)], wrong):
                self._zero(part, out)
                if part[1] == self._count:
                    out.last_length = self._block_size

    def _zero(self, run: blockset.Run, out: _Placed) -> None:
        if run[0] < run[1]:
            length = (run[1] - run[0]) * self._block_size
            self._sink.zero(run[0] * self._block_size, length)
            out.zeros += length
            out.right.append(run)


def damage(what: str, error: FormatError) -> BlockdiffError:
    """Return the error for bytes that are not as they were written."""
    return DamagedFile(what, error) if isinstance(error, TornError) else DigestMismatch(what, error)
