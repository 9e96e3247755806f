"""The chain of a version: what it needs to be restored, and whether each link continues the one before."""

import itertools
from collections.abc import Callable

from blockdiff.errors import ChainBroken, NoSuchVersion, StoreUnreadable
from blockdiff.formats import names
from blockdiff.sets import versions
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.version import Version


class MissingLink(LookupError):
    """The chain of a version has a gap; `number` is the first version that is missing."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def needed(is_full: Callable[[int], bool | None], number: int) -> list[int]:
    """Return the versions to restore `number`: from the newest full at or before it, in order.

    `is_full` returns whether a version is a full one, None if it does not exist.
    Raises MissingLink with the first version that is missing, counted from `number` down.
    """
    chain = []
    for candidate in range(number, 0, -1):
        full = is_full(candidate)
        if full is None:
            raise MissingLink(candidate)
        chain.append(candidate)
        if full:
            return chain[::-1]
    raise MissingLink(0)


def check_link(backup_set: BackupSet, child: Version) -> None:
    """Prove that a version continues the one before it, as far as its manifest shows.

    Raises ChainBroken or StoreUnreadable.
    """
    if child.full or child.manifest is None:
        return
    before = child.number - 1
    try:
        found = backup_set.hash(before, ".md5").sha256
    except FileNotFoundError as error:
        raise ChainBroken(child.number, backup_set.name, f"{error.filename} is missing") from None
    except OSError as error:
        raise StoreUnreadable(str(error.filename), error.strerror) from None
    if found != child.manifest.parent_md5_sha256:
        raise ChainBroken(child.number, backup_set.name, f"it does not continue the version {before} that is here")


def chain_of(backup_set: BackupSet, number: int, listing: names.Listing, deep: bool = True) -> list[Version]:
    """Return the versions that a restore of `number` reads, oldest first.

    `deep` hashes every digest file and proves every link.  Raises NoSuchVersion,
    ChainBroken, MissingFile, DamagedFile, NotOurFormat or StoreUnreadable.
    """
    if number not in listing.versions:
        raise NoSuchVersion(backup_set.name, number)
    known: dict[int, Version] = {}

    def is_full(candidate: int) -> bool | None:
        if candidate not in listing.versions:
            return None
        known[candidate] = versions.version(backup_set, candidate, listing, deep)
        return known[candidate].full

    try:
        numbers = needed(is_full, number)
    except MissingLink as gap:
        why = f"version {gap.number} is missing" if gap.number else "there is no full version before it"
        raise ChainBroken(number, backup_set.name, why) from None
    links = [known[n] for n in numbers]
    for before, after in itertools.pairwise(links):
        if before.block_size != after.block_size:
            change = f"from {before.block_size} to {after.block_size} bytes at version {after.number}"
            raise ChainBroken(number, backup_set.name, f"block size changes {change}")
        if deep:
            check_link(backup_set, after)
    return links
