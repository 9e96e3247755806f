"""Verify a set: read everything that a restore would need, prove it, and list what is lost.

Versions are read oldest to newest, and each has a set of lost blocks, which begins as that of its
parent.  A block whose digest differs from the parent's must have a record.  It is lost until a record with its
digest is found; from then on it is good, whatever was found before.  A version restores if
its chain is linked and no block is lost at its end.  A file that cannot be read for lack of
permission does not count as lost: it is not known whether versions that need it restore.
A fault does not end the run.
"""

import contextlib
import os
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from blockdiff.blocks import blockset, changes
from blockdiff.blocks.diffreader import whole_blocks
from blockdiff.blocks.parallel import Progress, silent
from blockdiff.blocks.versioncheck import VersionCheck
from blockdiff.errors import (
    BlockdiffError,
    ChainBroken,
    ForeignFiles,
    NoSuchSet,
    NoSuchVersion,
    StoreUnreadable,
)
from blockdiff.formats import names
from blockdiff.sets import chain, digests, verified, versions
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.newversion import now
from blockdiff.sets.version import Version, VersionFiles

_MOST_RANGES = 100  # of lost bytes that are listed for a version


@dataclass
class Checked:
    """What was found of one version."""

    number: int
    full: bool | None = None  # None: not known from its files
    size: int | None = None  # bytes of the volume, as far as known
    restores: bool = False
    unknown: bool = False  # a file that it needs cannot be read: it is not known whether it restores
    before: bool = False  # it was proved by an earlier verify and not read again
    lost: list[tuple[int, int]] = field(default_factory=list)  # bytes of the volume: begin, end; bounded
    lost_bytes: int = 0  # of all of them
    lost_more: bool = False  # more than `lost` lists
    faults: list[BlockdiffError] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # for information: nothing is wrong with the version
    proof: verified.Proof | None = None  # None: the files cannot be read


@dataclass
class Verified:
    """What a verify found."""

    name: str
    versions: list[Checked] = field(default_factory=list)
    faults: list[BlockdiffError] = field(default_factory=list)  # of the set as a whole
    warnings: list[str] = field(default_factory=list)
    read: int = 0  # bytes of diff files

    @property
    def proofs(self) -> dict[int, verified.Proof]:
        """The proofs of the versions that a later verify need not read again."""
        return {
            v.number: v.proof for v in self.versions if v.restores and v.proof and not v.faults and not v.warnings
        }

    @property
    def all_faults(self) -> list[BlockdiffError]:
        """Everything that is wrong, in order."""
        return self.faults + [fault for version in self.versions for fault in version.faults]

    @property
    def all_warnings(self) -> list[str]:
        """Everything that needs attention although all versions restore."""
        return self.warnings + [line for version in self.versions for line in version.warnings]

    @property
    def exit_code(self) -> int:
        """The exit code of the program: that of the first fault."""
        for fault in self.all_faults:
            return fault.exit_code
        return 3 if self.all_warnings else 0


def verify(
    backup_set: BackupSet,
    number: int | None = None,
    *,
    only: Collection[int] | None = None,
    known: Mapping[int, verified.Proof] | None = None,
    stop: Callable[[int], bool] = lambda read: False,
    threads: int = 2,
    progress: Progress = silent,
) -> Verified:
    """Prove all versions of a set, or only those that a restore of `number` or of any in `only` reads.

    `known`: proofs of versions that need not be read again; `stop` is asked before each, given the
    bytes that were read, whether to end; what is left is not in the result.  `progress`: see parallel.Progress.
    Raises NoSuchSet, NoSuchVersion or StoreUnreadable.
    """
    while True:
        listing = backup_set.settled_listing()
        wanted = only if number is None else [number]
        result = _verify(backup_set, listing, wanted, known or {}, stop, threads, progress)
        gone = listing.versions.keys() - backup_set.listing().versions.keys()
        if not gone or not result.all_faults:
            return result
        # versions were removed, and others rewritten, during the walk


def _verify(
    backup_set: BackupSet,
    listing: names.Listing,
    only: Collection[int] | None,
    known: Mapping[int, verified.Proof],
    stop: Callable[[int], bool],
    threads: int,
    progress: Progress,
) -> Verified:
    if not listing.versions and not listing.has_ver:
        raise NoSuchSet(backup_set.name)
    for candidate in only or ():
        if candidate not in listing.versions:
            raise NoSuchVersion(backup_set.name, candidate)
    result = Verified(backup_set.name)
    newest = 0
    if only is None:
        try:
            newest = backup_set.newest(listing)
            result.warnings += versions.unpublished(backup_set, newest, listing)
        except ForeignFiles as error:
            result.faults.append(error)
            newest = max(listing.versions, default=0)
    numbers = _numbers(backup_set, listing, newest, only)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="verify")
    with pool, progress(_stored(backup_set, listing, numbers)) as done:
        walk = _Walk(backup_set, listing, numbers, known, done)
        for candidate in numbers:
            if stop(walk.read):
                break
            result.versions.append(walk.step(candidate, pool))
    result.read = walk.read
    return result


def _stored(backup_set: BackupSet, listing: names.Listing, numbers: list[int]) -> int:
    """Return how many bytes of diff files these versions have."""
    total = 0
    for number in numbers:
        for suffix in listing.diffs(number):
            with contextlib.suppress(OSError):
                total += os.path.getsize(backup_set.path(number, suffix))
    return total


def _numbers(backup_set: BackupSet, listing: names.Listing, newest: int, only: Collection[int] | None) -> list[int]:
    """Return the versions to walk: all up to the newest, or those that restores of some read."""
    if only is None:
        return sorted(n for n in listing.versions if n <= newest)
    chosen: set[int] = set()
    for number in only:
        candidate: int | None = number
        while candidate is not None and candidate in listing.versions and candidate not in chosen:
            chosen.add(candidate)
            candidate = _parents(backup_set, listing, [candidate]).get(candidate)
    return sorted(chosen)


def _parents(backup_set: BackupSet, listing: names.Listing, numbers: list[int]) -> dict[int, int | None]:
    """Return which version each of these continues, without those whose files do not show it."""
    found = {}
    for number in numbers:
        with contextlib.suppress(BlockdiffError):  # step() reports it
            found[number] = versions.version(backup_set, number, listing, deep=False).parent
    return found


def _unused(backup_set: BackupSet, files: VersionFiles) -> Iterator[str]:
    """Yield a warning for each file beside a version that only speeds things up and does not count."""
    version = files.version
    for suffix in version.manifest.files if version.manifest is not None else ():
        if suffix == ".md5" or suffix in names.DIFF_SUFFIXES:
            continue
        counts = files.index is not None if suffix == ".idx" else versions.counts(backup_set, version, suffix)
        if not counts:
            path = backup_set.path(version.number, suffix)
            yield f"{path} is missing or damaged; it only speeds things up and is not used"


@dataclass
class _State:
    """What a version leaves to those that continue it."""

    version: Version | None = None  # None: its files do not show what it is
    lost: blockset.Blocks = field(default_factory=lambda: blockset.Blocks(0))
    broken: str | None = None  # why its chain is broken
    unknown: bool = False  # a file cannot be read; the chain may be good


class _Walk:
    """The states of the versions that others still continue."""

    def __init__(
        self,
        backup_set: BackupSet,
        listing: names.Listing,
        numbers: list[int],
        known: Mapping[int, verified.Proof],
        progress: Callable[[int], object],
    ) -> None:
        self._backup_set, self._listing, self._known, self._progress = backup_set, listing, known, progress
        parents = _parents(backup_set, listing, numbers)
        self._children = {parent: number for number, parent in sorted(parents.items()) if parent is not None}
        self._states: dict[int, _State] = {}
        self._lost = blockset.Blocks(0)
        self._broken: str | None = None
        self._unknown = False
        self.read = 0  # bytes

    def step(self, number: int, pool: ThreadPoolExecutor) -> Checked:
        """Prove the next version."""
        out = Checked(number)
        version = self._check(out, pool)
        self._states[number] = _State(version, self._lost, self._broken, self._unknown)
        for parent in [n for n in self._states if n < number and self._children.get(n, 0) <= number]:
            del self._states[parent]
        return out

    def _begin(self, parent: int | None, number: int) -> _State | None:
        """Begin with what the parent left; returns that, None if it is not there."""
        state = None if parent is None else self._states.get(parent)
        begin = state or _State()
        again = parent is not None and self._children.get(parent, 0) > number  # another one continues it, too
        self._lost = begin.lost.copy() if again else begin.lost
        self._broken, self._unknown = begin.broken, begin.unknown
        return state

    def _check(self, out: Checked, pool: ThreadPoolExecutor) -> Version | None:
        """Prove a version; returns it, None if its files do not show what it is."""
        number = out.number
        try:
            version = versions.version(self._backup_set, number, self._listing)
        except BlockdiffError as error:
            self._begin(number - 1, number)
            self._stop(number, error, out)
            return None
        out.full, out.size = version.full, version.size
        out.notes += [*version.notes, *filter(None, [version.renamed])]
        state = self._begin(version.parent, number)
        before = None if state is None else state.version
        self._join(version, before, out)
        with contextlib.suppress(OSError):  # a file that cannot be read is reported below
            out.proof = verified.of(self._backup_set, version, int(now().timestamp()))
        sound = not self._broken and (version.full or not self._lost)
        known = self._known.get(number)
        if sound and known is not None and known.same_files(out.proof):
            out.proof, out.before, out.restores = known, True, True
            self._progress(_stored(self._backup_set, self._listing, [number]))
            self._lost = blockset.Blocks(version.count)
            return version
        self._prove(version, before, out, pool)
        out.unknown = self._unknown and not out.restores
        if version.ignored and out.restores and not out.faults:
            out.notes.append(f"every block is proved; to remove what is ignored: rm {shlex.join(version.ignored)}")
        return version

    def _stop(self, number: int, error: BlockdiffError, out: Checked) -> None:
        """Note what prevents the check of a version and of those that need it."""
        out.faults.append(error)
        unreadable = isinstance(error, StoreUnreadable)
        out.unknown = self._unknown = unreadable and (out.full is None or self._unknown or not self._broken)
        self._broken = f"version {number} {'cannot be read' if unreadable else 'is damaged'}"

    def _join(self, version: Version, before: Version | None, out: Checked) -> None:
        """Check that this version continues its parent."""
        if version.parent is None:
            self._broken, self._unknown = None, False
            self._lost = blockset.Blocks(version.count)
            return
        self._lost.resize(version.count)
        if before is None or self._broken:
            self._break(version, self._broken or f"version {version.parent} is missing", out)
        elif before.block_size != version.block_size:
            self._break(version, f"block size changes from {before.block_size} to {version.block_size}", out)
        else:
            try:
                chain.check_link(self._backup_set, version)
            except ChainBroken as error:
                self._broken = f"version {version.number} does not continue version {before.number}"
                out.faults.append(error)
            except StoreUnreadable as error:
                self._stop(before.number, error, out)

    def _break(self, version: Version, why: str, out: Checked) -> None:
        self._broken = why
        out.faults.append(ChainBroken(version.number, self._backup_set.name, why))

    def _prove(self, version: Version, before: Version | None, out: Checked, pool: ThreadPoolExecutor) -> None:
        """Read a version's diff file, and find what is lost."""
        files = versions.files_of(self._backup_set, version)
        try:
            with digests.Digests(files.digests, version.count) as own:
                check = VersionCheck(files, own, self._progress)
                check.run(pool)
                self.read += check.read
                out.faults += check.faults
                out.warnings += [*check.warnings, *_unused(self._backup_set, replace(files, index=check.index))]
                if check.forbidden:
                    fault = out.faults.pop()
                    self._stop(version.number, fault, out)
                    return
                if version.full:
                    self._settle(check, changes.changed(None, own), out)
                elif before is not None and before.block_size == version.block_size:
                    with digests.Digests(self._backup_set.path(before.number, ".md5"), before.count) as old:
                        self._settle(check, changes.changed(old, own), out)
        except BlockdiffError as error:
            self._stop(version.number, error, out)
            return
        for run in self._lost.runs():
            start, end = whole_blocks(version, run)
            out.lost_bytes += end - start
            if len(out.lost) < _MOST_RANGES:
                out.lost.append((start, end))
            else:
                out.lost_more = True
        out.restores = not self._broken and not self._lost

    def _settle(self, check: VersionCheck, must: Iterator[blockset.Run], out: Checked) -> None:
        """Compare the good records with those that must exist."""
        for run in check.found.runs():
            self._lost.remove(*run)
        extra = check.found  # becomes the records that need not exist
        for run in must:
            for missing in blockset.without([run], list(check.found.runs(*run))):
                self._lost.add(*missing)
                check.miss(missing)
            extra.remove(*run)
        out.faults += check.missing()
        sheet = check.version.manifest
        if extra and (sheet is None or sheet.rewritten is None):  # which holds what any version between had
            start, end = whole_blocks(check.version, next(extra.runs()))
            what = f"{len(extra)} records of blocks that did not change, such as bytes {start} to {end - 1}"
            out.warnings.append(f"{check.path}: {what}")
