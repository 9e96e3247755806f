"""Remove versions that no other one needs.

What a run that is killed leaves at each step, and what everybody sees then:
1. the digest file is renamed to NAME.N.md5.part, the newest version first: N is no version any more,
   and those that are left still continue each other;
2. its other files are removed: the same;
3. NAME.N.md5.part is removed: nothing is left of N.
Each step is synced before the next.  The next run that has the lock ends what is left.
In an object store nothing can be renamed: there the manifest is removed first, and then the digest file.
Format: blockdiff-formats(5), "Removing a version".
"""

import contextlib
import os
from collections.abc import Collection, Iterable

from blockdiff.errors import BlockdiffError, ChainBroken, ForeignFiles
from blockdiff.formats import names
from blockdiff.place import choose
from blockdiff.place.partfile import write_failed
from blockdiff.sets import versions
from blockdiff.sets.backupset import BackupSet


def drop(backup_set: BackupSet, numbers: Collection[int]) -> None:
    """Remove these versions; the caller holds the lock, and has proved all that stay.

    Raises ChainBroken or ForeignFiles, with nothing removed, if one of them must stay; StoreFailed.
    """
    if not numbers:
        return
    check(backup_set, numbers)
    if choose.in_store(backup_set.folder):
        _remove_objects(backup_set, numbers)
        return
    for number in sorted(numbers, reverse=True):
        path = backup_set.path(number, ".md5")
        try:
            os.rename(path, _mark(backup_set, number))
        except OSError as error:
            raise write_failed(error, path) from None
        backup_set.sync()
    _remove(backup_set, numbers)


def finish(backup_set: BackupSet, listing: names.Listing) -> None:
    """Remove what a killed run left of the versions that it was removing; the caller holds the lock.

    Raises StoreFailed.
    """
    if listing.dropping:
        _remove(backup_set, listing.dropping)


def check(backup_set: BackupSet, numbers: Collection[int], moved: Collection[int] = ()) -> None:
    """Make sure that none of these versions must stay.  Raises ChainBroken or ForeignFiles.

    `moved`: versions that will continue others before these are removed.
    """
    listing = backup_set.listing()
    newest = backup_set.newest(listing)
    for number in sorted(numbers):
        if number >= newest:
            raise ForeignFiles(f"version {number} of {backup_set.name} is the newest one and is not removed")
        if number in listing.pinned:
            path = backup_set.place.path(names.keep_name(backup_set.base, number))
            raise ForeignFiles(f"version {number} of {backup_set.name} is not removed: there is {path}")
    for other in sorted(listing.versions.keys() - {*numbers, *moved}):
        try:
            parent = versions.version(backup_set, other, listing, deep=False).parent
        except BlockdiffError:
            parent = other - 1  # not known; this is what a version without a manifest continues
        if parent in numbers:
            raise ChainBroken(other, backup_set.name, f"it needs version {parent}, which is not removed")


def _remove_objects(backup_set: BackupSet, numbers: Collection[int]) -> None:
    """Remove versions of a set in an object store, the newest first.

    Without its manifest a version is one like those of the original, which restores as before; without
    that and its digest file, what is left of it is removed by the next run that writes.
    """
    listing = backup_set.listing()
    for number in sorted(numbers, reverse=True):
        suffixes = listing.versions[number]
        for suffix in (*(s for s in (".json", ".md5") if s in suffixes), *sorted(suffixes - {".json", ".md5"})):
            backup_set.place.remove(backup_set.path(number, suffix))


def _remove(backup_set: BackupSet, numbers: Iterable[int]) -> None:
    """Remove the files of versions whose digest files are renamed already."""
    numbers = sorted(numbers)
    others = [suffix for suffix in (*names.DIFF_SUFFIXES, *names.BESIDE_SUFFIXES) if suffix != ".md5"]
    _unlink(backup_set.path(number, suffix) for number in numbers for suffix in others)
    backup_set.sync()
    _unlink(_mark(backup_set, number) for number in numbers)
    backup_set.sync()


def _mark(backup_set: BackupSet, number: int) -> str:
    return os.path.join(backup_set.folder, names.drop_mark(backup_set.base, number))


def _unlink(paths: Iterable[str]) -> None:
    for path in paths:
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        except OSError as error:
            raise write_failed(error, path) from None
