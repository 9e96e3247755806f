"""What a killed run left of a version: adopted if it is complete, removed if it is incomplete and ours.

A file that no manifest of ours lists is never removed.
Format: blockdiff-formats(5), "Publishing".
"""

import contextlib
import os
import shlex
from collections.abc import Iterator

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
from blockdiff.place.partfile import Busy, lock_alone, remove_dead, write_failed
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
    if not listing.has_ver and set(listing.versions) == {1}:
        with _holding(backup_set, 1):
            if is_whole(backup_set, 1, listing):
                backup_set.publish_ver(1, after=0)
                note(f"version 1 of {backup_set.name} was complete but not yet published: adopted")
            else:
                _drop_torn_first(backup_set, listing)
        listing = backup_set.listing()
    newest = backup_set.newest(listing)
    above = listing.above(newest)
    if above and above[-1] > newest + 1:
        raise ForeignFiles(
            f"{backup_set.name} has version {above[-1]}, but {names.ver_name(backup_set.base)} names {newest}",
            hint="put the number of the newest good version into it, or move the files above it away",
        )
    if above:
        with _holding(backup_set, newest + 1) as found:
            if is_whole(backup_set, newest + 1, listing):
                newest += 1
                backup_set.publish_ver(newest, after=newest - 1)
                note(f"version {newest} of {backup_set.name} was complete but not yet published: adopted")
            else:
                _drop_torn(backup_set, newest + 1, found)
    rollforward.finish(backup_set, newest, note)
    if listing.dropping:
        drop.finish(backup_set, listing)
        note(f"{len(listing.dropping)} versions of {backup_set.name} were being removed: now they are")
    _sweep_parts(backup_set, newest)  # after that: a temporary manifest shows what is ours
    return newest


def _refuse_newer(backup_set: BackupSet, listing: names.Listing) -> None:
    """Raise NewerManifest if there is a manifest of a newer format, also under a temporary name."""
    paths = [backup_set.path(n, ".json") for n, suffixes in sorted(listing.versions.items()) if ".json" in suffixes]
    paths += [backup_set.path(number, ".json") for number in sorted(listing.dropping)]
    parts = [name for name in listing.parts if (names.member_of(backup_set.base, name) or (0, ""))[1] == ".json"]
    for path in paths + [os.path.join(backup_set.folder, name) for name in parts]:
        try:
            with open(path, "rb") as file:
                manifest.decode(file.read(manifest.MAX_SIZE + 1))
        except manifest.NewerFormat as error:
            raise NewerManifest(path, error) from None
        except (FormatError, OSError):
            continue  # another fault; whoever needs this version tells it


def is_whole(backup_set: BackupSet, number: int, listing: names.Listing) -> bool:
    """Return whether a version that NAME.ver does not name yet is whole, linked and ours.

    Raises NewerManifest: such a version is left alone.
    """
    try:
        found = versions.version(backup_set, number, listing)
        if found.manifest is None:
            return False
        chain.check_link(backup_set, found)
        return all(backup_set.hash(number, suffix) == entry for suffix, entry in found.manifest.files.items())
    except NewerManifest:
        raise
    except (NoSuchVersion, DamagedFile, NotOurFormat, StoreUnreadable, ChainBroken, OSError):
        return False


@contextlib.contextmanager
def _holding(backup_set: BackupSet, number: int) -> Iterator[list[str]]:
    """Keep other runs from publishing or removing the files of a version that is not published.

    Gives their suffixes.  Raises SetLocked if a run that is active made them.
    """
    with contextlib.ExitStack() as cleanup:
        suffixes = sorted(backup_set.listing().versions.get(number, ()))
        for suffix in suffixes:
            try:
                fd = lock_alone(backup_set.path(number, suffix))
            except Busy:
                raise SetLocked(backup_set.name) from None
            if fd is not None:
                cleanup.callback(os.close, fd)
        yield suffixes


def _sweep_parts(backup_set: BackupSet, newest: int) -> None:
    """Remove temporary files that a killed run of this set left; the lock is held.

    An active run may be rewriting a version without the lock.  Raises SetLocked if one makes a new
    version: then the lock does not separate runs.
    """
    for name in backup_set.listing().parts:
        found = names.member_of(backup_set.base, name)
        if not remove_dead(os.path.join(backup_set.folder, name)) and (found is None or found[0] > newest):
            raise SetLocked(backup_set.name)


def _drop_torn_first(backup_set: BackupSet, listing: names.Listing) -> None:
    """Remove the files of a first run that was killed between its renames; they are locked.

    Such a run left the manifest under its temporary name, and the manifest has the SHA-256 of
    every file of version 1.  A manifest without other files, which earlier versions of the
    program left, is removed, too.  Anything else is not touched.
    """
    if listing.versions[1] == {".json"} and _named(backup_set, 1):
        _remove(backup_set, 1, [".json"])
        return
    if listing.versions[1] == {".sig"} and signatures.is_signature(backup_set.place, backup_set.path(1, ".sig")):
        _remove(backup_set, 1, [".sig"])
        return
    for path in _temporary_sheets(backup_set, 1):
        if _tells_of_first(backup_set, path, listing):
            _remove(backup_set, 1, sorted(listing.versions[1]))
            return


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
    _remove(backup_set, number, sorted(found, key=".json".__eq__))  # the manifest last: it shows which files are ours


def _remove(backup_set: BackupSet, number: int, suffixes: list[str]) -> None:
    for suffix in suffixes:
        path = backup_set.path(number, suffix)
        try:
            os.unlink(path)
        except OSError as error:
            raise write_failed(error, path) from None


def _temporary_sheets(backup_set: BackupSet, number: int) -> list[str]:
    """Return the paths of a version's manifests that have not got their names yet."""
    begin = names.member_name(backup_set.base, number, ".json") + "."
    return [os.path.join(backup_set.folder, name) for name in backup_set.listing().parts if name.startswith(begin)]


def _named(backup_set: BackupSet, number: int) -> set[str]:
    """Return the suffixes of the files that manifests of ours at this number name."""
    named: set[str] = set()
    with contextlib.suppress(FormatError, OSError):
        named |= {".json", *backup_set.read_manifest(number).files}
    for path in _temporary_sheets(backup_set, number):
        with contextlib.suppress(FormatError, OSError), open(path, "rb") as file:
            sheet = manifest.decode(file.read(manifest.MAX_SIZE + 1))
            named |= set(sheet.files) if sheet.version == number else set()
    return named


def _tells_of_first(backup_set: BackupSet, path: str, listing: names.Listing) -> bool:
    try:
        with open(path, "rb") as file:
            files = manifest.decode(file.read(manifest.MAX_SIZE + 1)).files
        listed = listing.versions[1] - {".sig"}
        signed = listed != listing.versions[1]
        if signed and not signatures.is_signature(backup_set.place, backup_set.path(1, ".sig")):
            return False
        return all(files.get(suffix) == backup_set.hash(1, suffix) for suffix in listed)
    except (FormatError, OSError):
        return False
