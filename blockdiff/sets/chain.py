"""The chain of a version: what it needs to be restored, and whether each link continues the one before."""

import itertools
from collections.abc import Callable

from blockdiff.errors import ChainBroken, DamagedFile, NoSuchVersion, NotOurFormat, Sealed, StoreUnreadable
from blockdiff.formats import names
from blockdiff.sets import expected, versions
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.version import Version


class MissingLink(LookupError):
    """The chain of a version has a gap; `number` is the first version that is missing."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def needed(parent_of: Callable[[int], int | None], number: int) -> list[int]:
    """Return the versions to restore `number`: from the full that it is based on, in order.

    `parent_of` returns the number that a version continues, None for a full; it raises MissingLink
    for a version that does not exist.
    """
    chain = [number]
    while (parent := parent_of(chain[-1])) is not None:
        chain.append(parent)
    return chain[::-1]


def check_link(backup_set: BackupSet, child: Version) -> None:
    """Prove that a version continues its parent, as far as its manifest shows.

    Raises ChainBroken or StoreUnreadable.
    """
    if child.parent is None or child.manifest is None:
        return
    try:
        found = backup_set.hash(child.parent, ".md5").sha256
    except FileNotFoundError as error:
        raise ChainBroken(child.number, backup_set.name, f"{error.filename} is missing") from None
    except OSError as error:
        raise StoreUnreadable(str(error.filename), error.strerror) from None
    except (DamagedFile, NotOurFormat, Sealed) as error:  # it is sealed
        raise ChainBroken(child.number, backup_set.name, error.message) from None
    if found != child.manifest.parent_md5_sha256:
        why = f"it does not continue the version {child.parent} that is here"
        raise ChainBroken(child.number, backup_set.name, why)


def chain_of(
    backup_set: BackupSet, number: int, listing: names.Listing, deep: bool = True, deep_last: bool = False
) -> list[Version]:
    """Return the versions that a restore of `number` reads, oldest first.

    `deep` hashes every digest file and proves every link; `deep_last` hashes that of `number`.  Raises
    NoSuchVersion, ChainBroken, MissingFile, DamagedFile, NotOurFormat or StoreUnreadable.
    """
    if number not in listing.versions:
        raise NoSuchVersion(backup_set.name, number)
    known: dict[int, Version] = {}
    likely = expected.ahead(
        backup_set, sorted((n for n in listing.versions if n <= number), reverse=True), listing, ".idx", deep=deep
    )

    def parent_of(candidate: int) -> int | None:
        if candidate not in listing.versions:
            raise MissingLink(candidate)
        next(likely, None)
        hashed = deep or (deep_last and candidate == number)
        known[candidate] = versions.version(backup_set, candidate, listing, hashed)
        return known[candidate].parent

    try:
        numbers = needed(parent_of, number)
    except MissingLink as gap:
        raise ChainBroken(number, backup_set.name, f"version {gap.number} is missing") from None
    links = [known[n] for n in numbers]
    for before, after in itertools.pairwise(links):
        if before.block_size != after.block_size:
            change = f"from {before.block_size} to {after.block_size} bytes at version {after.number}"
            raise ChainBroken(number, backup_set.name, f"block size changes {change}")
        if deep:
            check_link(backup_set, after)
    return links
