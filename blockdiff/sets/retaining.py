"""Until when nobody can remove the versions that others need.

An object store can lock an object until a date.  A version is of no use without those that it
continues, so these are locked for as long as it is, before it is written.
"""

from collections.abc import Iterable

from blockdiff.errors import MissingFile, StoreUnreadable
from blockdiff.formats import FormatError, names
from blockdiff.sets.backupset import BackupSet

_DAY = 86400  # seconds; a date that is nearer to the wanted one stays, so that not every run writes to every object


def extend(
    dest: BackupSet, listing: names.Listing, numbers: Iterable[int], until: int, source: BackupSet
) -> int:
    """Lock these versions, and all that they need, until then, in seconds since 1970; return how many were not.

    `source`: the set that they are copies of, which tells what they need where nothing else does.
    Raises MissingFile, StoreUnreadable, or StoreRefused if the place cannot do that.
    """
    extended, seen = 0, set[int]()
    for number in numbers:
        parent: int | None = number
        while parent is not None and parent in listing.versions and parent not in seen:
            seen.add(parent)
            extended += _extend(dest, listing, parent, until)
            parent = _parent(source if dest.place.blind else dest, listing, parent)
    return extended


def _extend(dest: BackupSet, listing: names.Listing, number: int, until: int) -> bool:
    """Lock a version's files unless they are; its manifest, or digest file, is the last one and stands for all."""
    last = ".json" if ".json" in listing.versions[number] else ".md5"
    path = dest.path(number, last)
    try:
        if dest.place.retained(path) >= until - _DAY:
            return False
        for suffix in sorted(listing.versions[number], key=last.__eq__):
            path = dest.path(number, suffix)
            dest.place.retain(path, until)
    except FileNotFoundError:
        raise MissingFile(path) from None
    return True


def _parent(backup_set: BackupSet, listing: names.Listing, number: int) -> int | None:
    if ".json" not in listing.versions[number]:
        return number - 1 or None
    path = backup_set.path(number, ".json")
    try:
        return backup_set.read_manifest(number).parent
    except FileNotFoundError:  # the source has it no more: what comes before it is locked as well
        return max((n for n in listing.versions if n < number), default=None)
    except FormatError as error:
        raise StoreUnreadable(path, error) from None
    except OSError as error:
        raise StoreUnreadable(path, error.strerror) from None
