"""Check one version: its whole diff file is read, and the digest of every block in it compared."""

import contextlib
import functools
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from blockdiff.blocks import blockset, checker, diffreader, parallel
from blockdiff.errors import BlockdiffError, DamagedFile, DigestMismatch, NotOurFormat, StoreUnreadable
from blockdiff.formats import FormatError
from blockdiff.sets import versions
from blockdiff.sets.digests import Digests
from blockdiff.sets.version import VersionFiles

_MOST_FAULTS = 100  # of one version that are listed one by one


@dataclass
class _Found:
    """What a piece has."""

    right: list[blockset.Run] = field(default_factory=list)  # blocks
    wrong: list[blockset.Run] = field(default_factory=list)  # blocks that do not have their digest
    faults: checker.Faults = field(default_factory=checker.Faults)  # records that cannot be
    failure: FormatError | None = None  # the piece cannot be read at all


class VersionCheck:
    """The blocks that a version's diff file has right records of, and its faults."""

    def __init__(self, files: VersionFiles, own: Digests, progress: Callable[[int], object]) -> None:
        """`own` are the version's own digests."""
        self.version, self.path = files.version, files.diff
        self.found = blockset.Blocks(files.version.count)  # blocks whose record is there and right
        self.faults: list[BlockdiffError] = []
        self.warnings: list[str] = []
        self.read = 0  # bytes of the diff file
        self.forbidden = False  # no permission to read it: nothing is known of its blocks
        self._files, self._own, self._progress = files, own, progress
        self.index = files.index  # its path; None: not used
        self._checker = checker.BlockChecker(own, files.version.block_size)
        self._explained: list[blockset.Run] = []  # blocks that a fault was noted for
        self._missing: list[blockset.Run] = []
        self._unlisted = 0  # faults beyond those that are listed

    def run(self, pool: ThreadPoolExecutor) -> None:
        """Read everything; what is wrong is kept in `faults` and `warnings`.

        An index that turns out to be of another diff file is not used.
        """
        self._run(pool)
        if self.faults and self.index is not None and not versions.is_listed(self._files):
            again = VersionCheck(replace(self._files, index=None), self._own, lambda length: None)
            again._run(pool)
            self.read += again.read
            for run in again.found.runs():
                self.found.add(*run)
            if not again.faults:  # else the file is damaged, and with its index less of it is lost
                self.faults, self.warnings, self.index = [], again.warnings, None
                self._explained, self._unlisted = [], 0

    def _run(self, pool: ThreadPoolExecutor) -> None:
        sheet = self.version.manifest
        total = hashlib.sha256() if sheet is not None else None
        whole = False
        try:
            observe = total.update if total else None
            with diffreader.DiffFile(self.path, self.index, self.version, observe, opener=self._files.open) as file:
                rows = parallel.in_order(pool, file.pieces(), functools.partial(self._check, file))
                try:
                    with contextlib.closing(rows):
                        for piece, found in rows:
                            self._progress(piece.read)
                            self._take(piece, found)
                except FormatError as error:
                    self._fault(diffreader.damage(self.path, error), (0, self.version.count))
                file.drain()
                whole = not file.skipped
                self.read += file.read
        except OSError as error:
            self.forbidden = isinstance(error, PermissionError)
            self._fault(StoreUnreadable(self.path, error.strerror), (0, self.version.count))
        if self._unlisted:
            self.faults.append(DigestMismatch(self.path, f"and {self._unlisted} more faults"))
        if sheet is None or total is None or not whole or self.faults:
            pass
        elif total.hexdigest() != sheet.files[self.version.suffix].sha256:
            self.warnings.append(
                f"{self.path} is not the file that the manifest describes, though every block in it is proved"
            )

    def miss(self, run: blockset.Run) -> None:
        """Note blocks whose record must be there and was not found."""
        if len(self._missing) < 100 * _MOST_FAULTS:
            self._missing.append(run)

    def missing(self) -> list[BlockdiffError]:
        """Return a fault for those that are missing and that no fault was noted for."""
        missing = list(blockset.without(blockset.joined(self._missing), blockset.joined(self._explained)))
        if not missing:
            return []
        start, end = diffreader.whole_blocks(self.version, missing[0])
        more = f" and {len(missing) - 1} more ranges" if len(missing) > 1 else ""
        return [DamagedFile(self.path, f"bytes {start} to {end - 1}{more} are missing in it")]

    def _take(self, piece: diffreader.Piece, found: _Found) -> None:
        for run in found.right:
            self.found.add(*run)
        reach = piece.run or (0, self.version.count)
        where = f"{self.path}: {piece.where}"
        if found.failure is not None:
            start, end = diffreader.whole_blocks(self.version, reach)
            about = f" (bytes {start} to {end - 1})" if start < end and piece.run else ""
            self._fault(diffreader.damage(where + about, found.failure), reach)
        for line in found.faults.lines():
            self._fault(NotOurFormat(where, line), reach)
        for run in blockset.joined(found.wrong):
            start, end = diffreader.whole_blocks(self.version, run)
            self._fault(DigestMismatch(self.path, f"bytes {start} to {end - 1} do not have their digest"), run)

    def _fault(self, error: BlockdiffError, reach: blockset.Run) -> None:
        self._explained.append(reach)
        if len(self._explained) > 2 * _MOST_FAULTS:
            self._explained = blockset.joined(self._explained)
        if len(self.faults) < _MOST_FAULTS:
            self.faults.append(error)
        else:
            self._unlisted += 1

    # in the pool

    def _check(self, file: diffreader.DiffFile, piece: diffreader.Piece) -> _Found:
        out = _Found()
        try:
            for kind, first, stop, _ in self._checker.check(file, piece, out.faults):
                blockset.append(out.wrong if kind == checker.WRONG else out.right, first, stop)
        except FormatError as error:
            out.failure = error
        return out
