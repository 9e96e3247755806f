"""A walk through a set's versions, oldest first: which of them restore, and which blocks are lost.

Each version has a set of lost blocks, which begins as that of its parent.  A block whose digest
differs from the parent's must have a record.  It is lost until a record with its digest is found;
from then on it is good, whatever was found before.  A version restores if its chain is linked and no
block is lost at its end.  What it walks was looked at and opened before, see sets/held.py.
"""

import contextlib
import shlex
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from blockdiff.blocks import blockset, changes
from blockdiff.blocks.diffreader import whole_blocks
from blockdiff.blocks.versioncheck import VersionCheck
from blockdiff.errors import BlockdiffError, ChainBroken, NotSigned, Sealed, StoreUnreadable
from blockdiff.formats import names
from blockdiff.sets import chain, digests, verified, versions
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.held import Held
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

    @property
    def earned(self) -> verified.Proof | None:
        """The proof, if nothing is wrong with the version; then it need not be read again soon."""
        return self.proof if self.restores and not self.faults and not self.warnings else None


@dataclass
class Seen:
    """What the files of one version show before its diff file is read."""

    files: VersionFiles | BlockdiffError  # or why they do not show what the version is
    link: ChainBroken | StoreUnreadable | None = None  # why it does not continue its parent
    proof: verified.Proof | None = None  # what it gets if it is proved


def look(backup_set: BackupSet, number: int, held: Held) -> Seen:
    """Return what a version's files show; nothing is raised."""
    try:
        version = versions.version(backup_set, number, held.listing)
    except BlockdiffError as error:
        return Seen(error)
    out = Seen(versions.files_of(backup_set, version, held.open))
    try:
        chain.check_link(backup_set, version)
    except (ChainBroken, StoreUnreadable) as error:
        out.link = error
    with contextlib.suppress(OSError):  # a file that cannot be read is reported when it is read
        out.proof = verified.of(backup_set, version, int(now().timestamp()))
    return out


def _unused(backup_set: BackupSet, files: VersionFiles, held: Held) -> Iterator[str]:
    """Yield a warning for each file beside a version that only speeds things up and does not count."""
    version = files.version
    for suffix in version.manifest.files if version.manifest is not None else ():
        if suffix == ".md5" or suffix in names.DIFF_SUFFIXES:
            continue
        if suffix == ".xxh128" and backup_set.place.sealed:
            continue  # it is for the next backup, and none is made there
        counts = files.index is not None if suffix == ".idx" else versions.counts(backup_set, version, suffix)
        path = backup_set.path(version.number, suffix)
        if not counts and not held.changed(path):
            yield f"{path} is missing or damaged; it only speeds things up and is not used"


@dataclass
class _State:
    """What a version leaves to those that continue it."""

    version: Version | None = None  # None: its files do not show what it is
    lost: blockset.Blocks = field(default_factory=lambda: blockset.Blocks(0))
    broken: str | None = None  # why its chain is broken
    unknown: bool = False  # a file cannot be read; the chain may be good


class Walk:
    """The states of the versions that others still continue."""

    def __init__(
        self,
        backup_set: BackupSet,
        seen: Mapping[int, Seen],
        held: Held,
        known: Mapping[int, verified.Proof],
        progress: Callable[[int], object],
    ) -> None:
        self._backup_set, self._seen, self._held = backup_set, seen, held
        self._known, self._progress = known, progress
        parents = {n: each.files.version.parent for n, each in seen.items() if isinstance(each.files, VersionFiles)}
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

    def assume(self, number: int) -> None:
        """Take a version as whole without reading its diff file; as damaged if its files do not show what it is."""
        files = self._seen[number].files
        if isinstance(files, VersionFiles):
            self._states[number] = _State(files.version, blockset.Blocks(files.version.count))
        else:
            self._stop(number, files, Checked(number))
            self._states[number] = _State(None, blockset.Blocks(0), self._broken, self._unknown)

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
        number, seen = out.number, self._seen[out.number]
        if isinstance(seen.files, BlockdiffError):
            self._begin(number - 1, number)
            self._stop(number, seen.files, out)
            return None
        version = seen.files.version
        out.full, out.size = version.full, version.size
        out.notes += [*version.notes, *filter(None, [version.renamed])]
        state = self._begin(version.parent, number)
        before = None if state is None else state.version
        self._join(version, before, seen.link, out)
        out.proof = seen.proof
        sound = not self._broken and (version.full or not self._lost)
        known = self._known.get(number)
        if sound and known is not None and known.same_files(out.proof):
            out.proof, out.before, out.restores = known, True, True
            self._progress(seen.proof.size if seen.proof else 0)
            self._lost = blockset.Blocks(version.count)
            return version
        self._prove(seen.files, before, out, pool)
        out.unknown = self._unknown and not out.restores
        if version.ignored and out.restores and not out.faults:
            out.notes.append(f"every block is proved; to remove what is ignored: rm {shlex.join(version.ignored)}")
        return version

    def _stop(self, number: int, error: BlockdiffError, out: Checked) -> None:
        """Note what prevents the check of a version and of those that need it."""
        out.faults.append(error)
        unreadable = isinstance(error, (StoreUnreadable, NotSigned, Sealed))  # a wrong key is no damage
        out.unknown = self._unknown = unreadable and (out.full is None or self._unknown or not self._broken)
        what = "is not signed" if isinstance(error, NotSigned) else "cannot be read"
        self._broken = f"version {number} {what if unreadable else 'is damaged'}"

    def _join(
        self, version: Version, before: Version | None, link: ChainBroken | StoreUnreadable | None, out: Checked
    ) -> None:
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
        elif isinstance(link, ChainBroken):
            self._broken = f"version {version.number} does not continue version {before.number}"
            out.faults.append(link)
        elif link is not None:
            self._stop(before.number, link, out)

    def _break(self, version: Version, why: str, out: Checked) -> None:
        self._broken = why
        out.faults.append(ChainBroken(version.number, self._backup_set.name, why))

    def _prove(self, files: VersionFiles, before: Version | None, out: Checked, pool: ThreadPoolExecutor) -> None:
        """Read a version's diff file, and find what is lost."""
        version = files.version
        try:
            with digests.Digests(files.digests, version.count, files.open) as own:
                check = VersionCheck(files, own, self._progress)
                check.run(pool)
                self.read += check.read
                out.faults += check.faults
                used = replace(files, index=check.index)
                out.warnings += [*check.warnings, *_unused(self._backup_set, used, self._held)]
                if check.forbidden:
                    fault = out.faults.pop()
                    self._stop(version.number, fault, out)
                    return
                if version.full:
                    self._settle(check, changes.changed(None, own), out)
                elif before is not None and before.block_size == version.block_size:
                    path = self._backup_set.path(before.number, ".md5")
                    with digests.Digests(path, before.count, files.open) as old:
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
