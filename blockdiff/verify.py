"""Verify a set: read everything that a restore would need, prove it, and list what is lost.

Versions are read oldest to newest.  All their files are opened before, so that a prune beside it does
not matter.  A file that cannot be read for lack of permission does not count as lost: it is not known
whether versions that need it restore.  A fault does not end the run.
"""

import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from blockdiff.blocks.parallel import Progress, silent
from blockdiff.blocks.walk import Checked, Seen, Walk, look
from blockdiff.errors import BlockdiffError, ForeignFiles, NoSuchSet, NoSuchVersion, Sealed
from blockdiff.formats import names
from blockdiff.sets import expected, unopened, verified, versions
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.held import Held, holding
from blockdiff.sets.version import VersionFiles


@dataclass
class Outside:
    """What was found of a sealed set without a key."""

    not_proved: Sealed
    files: int = 0
    stored: int = 0  # bytes of them
    unmarked: int = 0  # files of which the place does not tell what bytes were sent
    bare: list[int] = field(default_factory=list)  # versions without a manifest, as those of the original


@dataclass
class Verified:
    """What a verify found."""

    name: str
    versions: list[Checked] = field(default_factory=list)
    faults: list[BlockdiffError] = field(default_factory=list)  # of the set as a whole
    warnings: list[str] = field(default_factory=list)
    read: int = 0  # bytes of diff files
    outside: Outside | None = None  # of a sealed set without a key, of which nothing more is known

    @property
    def proofs(self) -> dict[int, verified.Proof]:
        """The proofs of the versions that a later verify need not read again."""
        return {version.number: version.earned for version in self.versions if version.earned is not None}

    @property
    def all_faults(self) -> list[BlockdiffError]:
        """Everything that is wrong, in order."""
        found = self.faults + [fault for version in self.versions for fault in version.faults]
        return found if self.outside is None else [*found, self.outside.not_proved]

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


_Begun = tuple[Verified, dict[int, Seen], Held]


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
    if number is not None:
        only = [number]

    def collect(listing: names.Listing, held: Held) -> tuple[_Begun, list[VersionFiles]]:
        result, numbers = _choose(backup_set, listing, only)
        ahead = expected.ahead(backup_set, numbers, listing, ".idx", ".xxh128", surely=True)
        seen = {each: look(backup_set, each, held) for each in ahead}
        return (result, seen, held), [v.files for v in seen.values() if isinstance(v.files, VersionFiles)]

    pool = ThreadPoolExecutor(threads, thread_name_prefix="verify")
    with holding(backup_set, collect) as (result, seen, held):
        with pool, progress(_stored(backup_set, held.listing, seen)) as done:
            walk = Walk(backup_set, seen, held, known or {}, done)
            unread = [each for each in seen if each not in (known or {})]
            soon = expected.ahead(backup_set, unread, held.listing, *names.DIFF_SUFFIXES, surely=True)
            for candidate in seen:
                if candidate not in (known or {}):
                    next(soon, None)
                if stop(walk.read):
                    break
                result.versions.append(walk.step(candidate, pool))
        result.read = walk.read
        return result


def verify_unopened(backup_set: BackupSet, *, progress: Progress = silent) -> Verified:
    """Find what is missing or damaged of a sealed set, as far as that shows without a key.

    The set was opened with Access.unopened.  Raises NoSuchSet or StoreUnreadable.
    """
    listing = backup_set.settled_listing()
    result, numbers = _choose(backup_set, listing, None)
    hint = "--identity FILE gives a private key of one of its recipients, and proves that"
    result.outside = Outside(Sealed(backup_set.name, "whether its versions restore is not proved", hint=hint))
    with progress(_sealed(backup_set, listing, numbers)) as done:
        for found in unopened.look(backup_set, numbers, listing, done):
            result.versions.append(Checked(
                found.number, unknown=not found.faults, faults=found.faults, warnings=found.warnings,
            ))  # fmt: skip
            result.read += found.read
            result.outside.files += found.files
            result.outside.stored += found.stored
            result.outside.unmarked += found.unmarked
            result.outside.bare += [found.number] if ".json" not in listing.versions[found.number] else []
    return result


def _sealed(backup_set: BackupSet, listing: names.Listing, numbers: Iterable[int]) -> int:
    """Return how many bytes of these versions are compared with what was sent; 0 where a place does not tell."""
    paths = (backup_set.path(n, suffix) for n in numbers for suffix in listing.versions[n])
    return sum(backup_set.place.look(path).size for path in paths) if backup_set.place.checks else 0


def _choose(
    backup_set: BackupSet, listing: names.Listing, only: Collection[int] | None
) -> tuple[Verified, list[int]]:
    """Return what is to be filled in, and the versions to walk in order.  Raises NoSuchSet or NoSuchVersion."""
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
    return result, _numbers(backup_set, listing, newest, only)


def _stored(backup_set: BackupSet, listing: names.Listing, numbers: Iterable[int]) -> int:
    """Return how many bytes of diff files these versions have."""
    total = 0
    for number in numbers:
        for suffix in listing.diffs(number):
            with contextlib.suppress(OSError, BlockdiffError):  # of a sealed file, too; the walk reports it
                total += backup_set.size(number, suffix)
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
        with contextlib.suppress(BlockdiffError):  # the walk reports it
            found[number] = versions.version(backup_set, number, listing, deep=False).parent
    return found
