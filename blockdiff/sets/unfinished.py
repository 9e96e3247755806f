"""What a killed run left of a set, wherever the set is: brought to an end, or removed.

In an object store there are no temporary names and no locks of files.  The lease keeps runs apart, and what one
that is believed dead still does meets a cancelled upload, or a name that is taken.  Whether files above NAME.ver
are a run's shows from what the store keeps beside them.  Nothing of another program is removed.
Format: blockdiff-formats(5), "Object stores".
"""

import shlex
from typing import NamedTuple

from blockdiff.errors import ForeignFiles, NewerManifest, Sealed
from blockdiff.formats import FormatError, manifest, names
from blockdiff.printable import Log
from blockdiff.sets import recover
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.publishing import MOVE_AWAY


class Settled(NamedTuple):
    """A set in which nothing is unfinished."""

    newest: int  # its newest version, 0 if it has none
    number: int  # of the next one


def settle(backup_set: BackupSet, note: Log) -> Settled:
    """Bring a locked set into the state its last run meant.  Raises as recover.settle.

    In a store, a number is not used again of which files were removed: that another run asked for the same
    removal, and died, may reach the store at any time.
    """
    if not backup_set.place.claims:
        newest = recover.settle(backup_set, note)
        return Settled(newest, newest + 1)
    backup_set.place.cancel(f"{backup_set.base}.", lambda name: names.member_of(backup_set.base, name) is not None)
    listing = backup_set.listing()
    if listing.sealed:
        hint = "back up to a folder, and seal a copy of that"
        raise Sealed(backup_set.name, "the next version needs the digests of the one before", hint=hint)
    newest = 0 if not listing.has_ver and len(listing.versions) == 1 else backup_set.newest(listing)
    for number in listing.above(newest):
        _refuse_newer(backup_set, number, listing)
        if recover.is_whole(backup_set, number, listing):
            backup_set.publish_ver(number)
            note(f"version {number} of {backup_set.name} was complete but not yet published: adopted")
            newest = number
        else:
            _drop(backup_set, number, sorted(listing.versions[number]))
            note(f"version {number} of {backup_set.name} was not complete: its files were removed")
    for number, suffixes in listing.versions.items():
        if number < newest and (".md5" in suffixes) + (".json" in suffixes) + bool(listing.diffs(number)) < 2:
            _drop(backup_set, number, sorted(suffixes))
            note(f"remains of version {number} of {backup_set.name} were removed")
    return Settled(newest, max([newest, *listing.versions]) + 1)


def _refuse_newer(backup_set: BackupSet, number: int, listing: names.Listing) -> None:
    """Raise NewerManifest if a version is of a newer format."""
    if ".json" in listing.versions[number]:
        try:
            backup_set.read_manifest(number)
        except manifest.NewerFormat as error:
            raise NewerManifest(backup_set.path(number, ".json"), error) from None
        except (FormatError, OSError):
            pass  # then it is not whole


def _drop(backup_set: BackupSet, number: int, suffixes: list[str]) -> None:
    """Remove the files of a version that is not complete.

    Raises ForeignFiles, with nothing removed, if some are not ours.
    """
    # the digest file first: by that, a run that is believed dead and is not sees it
    paths = [backup_set.path(number, suffix) for suffix in sorted(suffixes, key=".md5".__ne__)]
    others = [path for path in paths if not backup_set.place.made_by_us(path)]
    if others:
        what = f"{' and '.join(others)}: above the newest version, and no run of blockdiff made it"
        raise ForeignFiles(what, hint=f"{MOVE_AWAY}, or remove it with: aws s3 rm {shlex.join(others)}")
    for path in paths:
        backup_set.place.remove(path)
