"""Scrub: prove versions one by one, those first whose proof is the oldest, so that bit rot is found in time.

A version is proved alone: every block of its diff file by its own digest file, and that all blocks are
there whose digest differs from its parent's.  If that holds for all versions of a chain, all restore.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from blockdiff.blocks.walk import Checked, Seen, Walk, look
from blockdiff.errors import BlockdiffError, NoSuchSet
from blockdiff.formats import names
from blockdiff.place.base import PLAIN, Access
from blockdiff.sets import verified
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.catalogue import Listed
from blockdiff.sets.held import Held, holding
from blockdiff.sets.signatures import Signers
from blockdiff.sets.version import VersionFiles


@dataclass(frozen=True)
class Unit:
    """One version."""

    name: str  # of its set
    number: int
    diff: int  # bytes of its diff file
    begun: str  # ISO 8601
    at: int | None  # when it was proved, in seconds since 1970; None: never, with the diff file that it has now


@dataclass(frozen=True)
class Proved:
    """What was found of a version."""

    unit: Unit
    found: Checked
    read: int  # bytes of its diff file


def units(
    sets: Iterable[Listed], noted: Callable[[str], verified.Notes], access: Access = PLAIN
) -> list[Unit]:
    """Return the published versions of sets, those that were never proved first, then by their proofs' age.

    `noted`: what is noted of a set's versions.
    """
    out = []
    for listed in sets:
        proofs = verified.fitting(listed, noted(listed.name), access)
        for entry in listed.versions:
            if listed.newest and entry.number > listed.newest:
                continue
            out.append(Unit(listed.name, entry.number, entry.diff, entry.begun, proofs.get(entry.number)))
    return sorted(out, key=lambda unit: (unit.at is not None, unit.at or 0, unit.begun, unit.name, unit.number))


def scrub(
    queue: Sequence[Unit],
    over: Callable[[int], bool],
    note: Callable[[Proved], object],
    *,
    access: Access = PLAIN,
    signers: Signers | None = None,
    threads: int = 2,
    progress: Callable[[int], object] = lambda count: None,
) -> None:
    """Prove versions in this order: the first, and others until `over` returns true, given the bytes that were read.

    `signers`: see BackupSet.  `note` is called with each result; one whose version was removed meanwhile
    has none.  A set that cannot be read at all is left out from then on.  `progress` is called with bytes
    of diff files.
    """
    read = 0
    unreadable: set[str] = set()
    with ThreadPoolExecutor(threads, thread_name_prefix="scrub") as pool:
        for place, unit in enumerate(queue):
            if place and over(read):
                return
            if unit.name in unreadable:
                continue
            try:
                proved = _prove(unit, access, signers, pool, progress)
            except BlockdiffError as error:
                unreadable.add(unit.name)
                proved = Proved(unit, Checked(unit.number, unknown=True, faults=[error]), 0)
            if proved is not None:
                read += proved.read
                note(proved)


def _prove(
    unit: Unit,
    access: Access,
    signers: Signers | None,
    pool: ThreadPoolExecutor,
    progress: Callable[[int], object],
) -> Proved | None:
    """Prove one version; None: it is not there any more.  Raises BlockdiffError if its set cannot be read."""
    backup_set = BackupSet(unit.name, access, signers)

    def collect(listing: names.Listing, held: Held) -> tuple[tuple[dict[int, Seen], Held], list[VersionFiles]]:
        if not listing.versions and not listing.has_ver:
            raise NoSuchSet(unit.name)
        if unit.number not in listing.versions:
            return ({}, held), []
        own = look(backup_set, unit.number, held)
        if not isinstance(own.files, VersionFiles):
            return ({unit.number: own}, held), []
        seen = {unit.number: own}
        parent = own.files.version.parent
        if parent is not None and parent in listing.versions:
            seen = {parent: look(backup_set, parent, held), **seen}
        return (seen, held), [own.files]

    with holding(backup_set, collect) as (seen, held):
        if not seen:
            return None
        walk = Walk(backup_set, seen, held, {}, progress)
        for parent in seen.keys() - {unit.number}:
            walk.assume(parent)
        found = walk.step(unit.number, pool)
        return Proved(unit, found, walk.read)
