"""What a killed run left of a version: adopted if it is complete, removed if it is incomplete and ours.

A file that no manifest of ours lists is never removed.
Format: blockdiff-formats(5), "Publishing".
"""

import contextlib
import shlex
from collections.abc import Collection, Iterator

from blockdiff.errors import (
    ChainBroken,
    DamagedFile,
    ForeignFiles,
    NewerManifest,
    NoSuchVersion,
    NotOurFormat,
    SetLocked,
    StoreUnreadable,
)
from blockdiff.formats import FormatError, manifest, names
from blockdiff.place.base import Busy, head
from blockdiff.printable import Log
from blockdiff.sets import chain, drop, rollforward, signatures, versions
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.publishing import MOVE_AWAY


def settle(backup_set: BackupSet, note: Log) -> int:
    """Bring a locked set into the state its last run meant, and return its newest version.

    A version above NAME.ver that is whole and ours is adopted; other files of a run that died
    are removed.  Raises ForeignFiles, and then nothing was changed, if there are files not ours, and
    NewerManifest if a newer program wrote or is writing one of the set's versions.
    """
    listing = backup_set.listing()
    _refuse_newer(backup_set, listing)
    if not listing.has_ver and len(listing.versions) == 1:  # a copy may begin with another one than version 1
        (first,) = listing.versions
        with keeping(backup_set, first):
            if not _adopted(backup_set, first, 0, listing, note):
                _drop_torn_first(backup_set, first, listing)
        listing = backup_set.listing()
    newest = backup_set.newest(listing)
    above = listing.above(newest)
    if above:
        number = above[-1]
        with keeping(backup_set, number) as found:
            if len(above) == 1 and _adopted(backup_set, number, newest, listing, note):
                newest = number
            elif number == newest + 1:
                _drop_torn(backup_set, number, found)
            elif len(above) > 1 or not _drop_torn_first(backup_set, number, listing):
                raise ForeignFiles(
                    f"{backup_set.name} has version {number}, but {names.ver_name(backup_set.base)} names {newest}",
                    hint="put the number of the newest good version into it, or move the files above it away",
                )
    rollforward.finish(backup_set, newest, note)
    if listing.dropping:
        drop.finish(backup_set, listing)
        note(f"{len(listing.dropping)} versions of {backup_set.name} were being removed: now they are")
    sweep_parts(backup_set, newest)  # after that: a temporary manifest shows what is ours
    return newest


def _refuse_newer(backup_set: BackupSet, listing: names.Listing) -> None:
    """Raise NewerManifest if there is a manifest of a newer format, also under a temporary name."""
    paths = [backup_set.path(n, ".json") for n, suffixes in sorted(listing.versions.items()) if ".json" in suffixes]
    paths += [backup_set.path(number, ".json") for number in sorted(listing.dropping)]
    parts = [name for name in listing.parts if (names.member_of(backup_set.base, name) or (0, ""))[1] == ".json"]
    for path in paths + list(map(backup_set.place.path, parts)):
        try:
            _read(backup_set, path)
        except manifest.NewerFormat as error:
            raise NewerManifest(path, error) from None
        except (FormatError, OSError):
            continue  # another fault; whoever needs this version tells it


def _adopted(backup_set: BackupSet, number: int, after: int, listing: names.Listing, note: Log) -> bool:
    """Publish a version that NAME.ver does not name yet, if it is whole; return whether it is."""
    if not is_whole(backup_set, number, listing):
        return False
    backup_set.publish_ver(number, after)
    note(f"version {number} of {backup_set.name} was complete but not yet published: adopted")
    return True


def _read(backup_set: BackupSet, path: str) -> manifest.Manifest:
    """Return the manifest in a file, also under a temporary name.  Raises FormatError or OSError."""
    return manifest.decode(head(backup_set.place, path, manifest.MAX_SIZE + 1))


def is_whole(backup_set: BackupSet, number: int, listing: names.Listing) -> bool:
    """Return whether a version that NAME.ver does not name yet is whole, linked and ours.

    Raises NewerManifest: such a version is left alone.
    """
    try:
        found = versions.version(backup_set, number, listing)
        if found.manifest is None:
            return False
        chain.check_link(backup_set, found)
        return all(_is_there(backup_set, number, suffix, entry) for suffix, entry in found.manifest.files.items())
    except NewerManifest:
        raise
    except (NoSuchVersion, DamagedFile, NotOurFormat, StoreUnreadable, ChainBroken, OSError):
        return False


def _is_there(backup_set: BackupSet, number: int, suffix: str, entry: manifest.StoredFile) -> bool:
    """Return whether a file is as its manifest lists it."""
    if backup_set.place.checks:  # and a manifest comes there after the files that it lists
        return backup_set.size(number, suffix) == entry.size
    return backup_set.hash(number, suffix) == entry


@contextlib.contextmanager
def keeping(backup_set: BackupSet, number: int) -> Iterator[list[str]]:
    """Keep other runs from publishing or removing the files of a version that is not published.

    Gives their suffixes.  Raises SetLocked if a run that is active made them.
    """
    with contextlib.ExitStack() as cleanup:
        suffixes = sorted(backup_set.listing().versions.get(number, ()))
        for suffix in suffixes:
            try:
                cleanup.enter_context(backup_set.place.alone(backup_set.path(number, suffix)))
            except Busy:
                raise SetLocked(backup_set.name) from None
        yield suffixes


def sweep_parts(backup_set: BackupSet, newest: int) -> None:
    """Remove temporary files that a killed run of this set left; the lock is held.

    An active run may be rewriting a version without the lock.  Raises SetLocked if one makes a new
    version: then the lock does not separate runs.
    """
    for name in backup_set.listing().parts:
        found = names.member_of(backup_set.base, name)
        if not backup_set.place.sweep(backup_set.place.path(name)) and (found is None or found[0] > newest):
            raise SetLocked(backup_set.name)


def _drop_torn_first(backup_set: BackupSet, number: int, listing: names.Listing) -> bool:
    """Remove the files of a version that a run was killed while naming; they are locked.

    Such a run left the manifest under its temporary name, and the manifest has the SHA-256 of
    every file of the version.  A manifest without other files, which earlier versions of the
    program left, is removed, too.  Anything else is not touched.  Return whether it was removed.
    """
    suffixes = listing.versions[number]
    ours = not listing.has_ver and suffixes == {".json"} and bool(_named(backup_set, number))
    signature = backup_set.path(number, ".sig")
    ours = ours or (suffixes == {".sig"} and signatures.is_signature(backup_set.place, signature))
    if ours or any(_describes(backup_set, path, number, suffixes) for path in _temporary_sheets(backup_set, number)):
        remove(backup_set, number, sorted(suffixes))
        return True
    return False


def _drop_torn(backup_set: BackupSet, number: int, found: list[str]) -> None:
    """Remove what a run of ours left at the number after NAME.ver's; files with these suffixes are locked.

    Those are the files that its manifest lists, and its signature; the manifest may still have its temporary name.
    Raises ForeignFiles if there are others; nothing was touched then.
    """
    named = _named(backup_set, number)
    others = [backup_set.path(number, suffix) for suffix in found if suffix not in named]
    others = [path for path in others if not signatures.is_signature(backup_set.place, path)]
    if others:
        what = f"{' and '.join(others)}: above the newest version, and no manifest of ours names it"
        raise ForeignFiles(what, hint=f"{MOVE_AWAY}, or remove it with: rm -- {shlex.join(others)}")
    backup_set.expect(number - 1)
    remove(backup_set, number, sorted(found, key=".json".__eq__))  # the manifest last: it shows which files are ours


def remove(backup_set: BackupSet, number: int, suffixes: list[str]) -> None:
    """Remove these files of a version that is not published.  Raises StoreFailed."""
    for suffix in suffixes:
        backup_set.place.remove(backup_set.path(number, suffix))


def _temporary_sheets(backup_set: BackupSet, number: int) -> list[str]:
    """Return the paths of a version's manifests that have not got their names yet."""
    begin = names.member_name(backup_set.base, number, ".json") + "."
    return [backup_set.place.path(name) for name in backup_set.listing().parts if name.startswith(begin)]


def _named(backup_set: BackupSet, number: int) -> set[str]:
    """Return the suffixes of the files that manifests of ours at this number name."""
    named: set[str] = set()
    with contextlib.suppress(FormatError, OSError):
        named |= {".json", *backup_set.read_manifest(number).files}
    for path in _temporary_sheets(backup_set, number):
        with contextlib.suppress(FormatError, OSError):
            sheet = _read(backup_set, path)
            named |= set(sheet.files) if sheet.version == number else set()
    return named


def _describes(backup_set: BackupSet, path: str, number: int, suffixes: Collection[str]) -> bool:
    try:
        files = _read(backup_set, path).files
        if ".sig" in suffixes and not signatures.is_signature(backup_set.place, backup_set.path(number, ".sig")):
            return False
        return all(files.get(suffix) == backup_set.hash(number, suffix) for suffix in set(suffixes) - {".sig"})
    except (FormatError, OSError):
        return False
