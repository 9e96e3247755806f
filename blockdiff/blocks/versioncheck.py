"""One version's diff file read from end to end, and every block in it proved."""

import contextlib
import functools
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from blockdiff.blocks import blockset, diffreader, parallel
from blockdiff.blocks.checker import BlockChecker
from blockdiff.blocks.restorer import damage
from blockdiff.errors import BlockdiffError, DamagedFile, DigestMismatch, NotOurFormat, StoreUnreadable
from blockdiff.formats import FormatError, names
from blockdiff.sets import versions
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.digests import Digests
from blockdiff.sets.version import Version

_MOST_FAULTS = 100  # of one version that are told one by one


@dataclass
class _Proved:
    """What was found in a piece."""

    right: list[blockset.Run] = field(default_factory=list)  # blocks
    wrong: list[blockset.Run] = field(default_factory=list)  # blocks that do not have their digest
    faults: diffreader.Faults = field(default_factory=diffreader.Faults)  # records that cannot be
    failure: FormatError | None = None  # the piece cannot be read at all


class VersionCheck:
    """What a version's files hold, as far as it proves right."""

    def __init__(self, store: BackupSet, version: Version, own: Digests, progress: Callable[[int], object]) -> None:
        """`own` are the version's own digests."""
        self.version = version
        self.path = store.path(version.number, version.suffix)
        self.found = blockset.Blocks(version.count)  # blocks whose record is there and right
        self.faults: list[BlockdiffError] = []
        self.warnings: list[str] = []
        self.read = 0  # bytes of the diff file
        self.forbidden = False  # it may not be read: nothing is known of what it holds
        self._store, self._progress = store, progress
        self._proof = BlockChecker(own, version.block_size)
        self._explained: list[blockset.Run] = []  # blocks that a fault was told of
        self._missing: list[blockset.Run] = []
        self._untold = 0  # faults beyond those that are told

    def run(self, pool: ThreadPoolExecutor) -> None:
        """Read everything; what is wrong is kept in `faults` and `warnings`."""
        sheet = self.version.manifest
        total = hashlib.sha256() if sheet is not None else None
        whole = False
        try:
            with diffreader.DiffFile(self._store, self.version, total.update if total else None) as file:
                rows = parallel.in_order(pool, file.pieces(), functools.partial(self._prove, file))
                try:
                    with contextlib.closing(rows):
                        for piece, proved in rows:
                            self._progress(piece.read)
                            self._take(piece, proved)
                except FormatError as error:
                    self._fault(damage(self.path, error), (0, self.version.count))
                file.drain()
                whole = not file.skipped
                self.read = file.read
        except OSError as error:
            self.forbidden = isinstance(error, PermissionError)
            self._fault(StoreUnreadable(self.path, error.strerror), (0, self.version.count))
        if self._untold:
            self.faults.append(DigestMismatch(self.path, f"and {self._untold} more faults"))
        if sheet is None or total is None or not whole or self.faults:
            pass
        elif total.hexdigest() != sheet.files[self.version.suffix].sha256:
            self.warnings.append(
                f"{self.path} is not the file that the manifest describes, though every block in it is proved"
            )
        self._look_beside()

    def _look_beside(self) -> None:
        """TargetState at the files that only speed things up."""
        sheet = self.version.manifest
        for suffix in sheet.files if sheet is not None else ():
            if suffix == ".md5" or suffix in names.DIFF_SUFFIXES:
                continue
            if not versions.counts(self._store, self.version, suffix):
                path = self._store.path(self.version.number, suffix)
                self.warnings.append(f"{path} is missing or damaged; it only speeds things up and is not used")

    def miss(self, run: blockset.Run) -> None:
        """Note blocks whose record must be there and was not found."""
        if len(self._missing) < 100 * _MOST_FAULTS:
            self._missing.append(run)

    def missing(self) -> list[BlockdiffError]:
        """Return a fault for those that are missing and that no fault was told of."""
        gone = list(blockset.without(blockset.joined(self._missing), blockset.joined(self._explained)))
        if not gone:
            return []
        start, end = diffreader.whole_blocks(self.version, gone[0])
        more = f" and {len(gone) - 1} more ranges" if len(gone) > 1 else ""
        return [DamagedFile(self.path, f"it must hold bytes {start} to {end - 1}{more}, and does not")]

    def _take(self, piece: diffreader.Piece, proved: _Proved) -> None:
        for run in proved.right:
            self.found.add(*run)
        reach = piece.run or (0, self.version.count)
        where = f"{self.path}: {piece.where}"
        if proved.failure is not None:
            start, end = diffreader.whole_blocks(self.version, reach)
            about = f" (bytes {start} to {end - 1})" if start < end and piece.run else ""
            self._fault(damage(where + about, proved.failure), reach)
        for line in proved.faults.lines():
            self._fault(NotOurFormat(where, line), reach)
        for run in blockset.joined(proved.wrong):
            start, end = diffreader.whole_blocks(self.version, run)
            self._fault(DigestMismatch(self.path, f"bytes {start} to {end - 1} do not have their digest"), run)

    def _fault(self, error: BlockdiffError, reach: blockset.Run) -> None:
        self._explained.append(reach)
        if len(self._explained) > 2 * _MOST_FAULTS:
            self._explained = blockset.joined(self._explained)
        if len(self.faults) < _MOST_FAULTS:
            self.faults.append(error)
        else:
            self._untold += 1

    # in the pool

    def _prove(self, file: diffreader.DiffFile, piece: diffreader.Piece) -> _Proved:
        out = _Proved()
        if piece.zeros is not None:
            out.wrong = list(self._proof.not_zero(*piece.zeros))
            out.right = list(blockset.without([piece.zeros], out.wrong))
            return out
        try:
            payload = file.payload(piece)
        except FormatError as error:
            out.failure = error
            return out
        proof, window, view = self._proof, self._proof.digests.window(), memoryview(payload)
        begin = after = 0  # blocks of the run that is open
        for index, start, end in diffreader.split(payload, piece, self.version, out.faults):
            want = window.of(index)
            if not proof.is_zero(payload, start, end, want) and not proof.has(view[start:end], want):
                out.wrong.append((index, index + 1))
                continue
            if index != after:
                if begin < after:
                    out.right.append((begin, after))
                begin = index
            after = index + 1
        if begin < after:
            out.right.append((begin, after))
        return out
