"""What a killed run left of a version: adopted where it is complete, removed where it is not and is ours.

Nothing that no manifest of ours names is ever removed.
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
    NoSuchVersion,
    NotOurFormat,
    SetLocked,
    StoreUnreadable,
)
from blockdiff.formats import FormatError, manifest, names
from blockdiff.printable import Log
from blockdiff.sets import chain, versions
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.partfile import Busy, lock_alone, remove_dead, write_failed
from blockdiff.sets.publishing import MOVE_AWAY


def settle(store: BackupSet, note: Log) -> int:
    """Bring a locked set into the state its last run meant, and return its newest version.

    A version above NAME.ver that is whole and ours is adopted, the rest of a run that died is
    cleared away.  Raises ForeignFiles before anything is touched that somebody could need.
    """
    listing = store.listing()
    if not listing.has_ver and set(listing.versions) == {1}:
        with _holding(store, 1):
            if is_whole(store, 1, listing):
                store.publish_ver(1, after=0)
                note(f"version 1 of {store.name} was complete but not yet published: adopted")
            else:
                _drop_torn_first(store, listing)
        listing = store.listing()
    newest = store.newest(listing)
    above = listing.above(newest)
    if above and above[-1] > newest + 1:
        raise ForeignFiles(
            f"{store.name} has version {above[-1]}, but {names.ver_name(store.base)} names {newest}",
            hint="put the number of the newest good version into it, or move the files above it away",
        )
    if above:
        with _holding(store, newest + 1) as found:
            if is_whole(store, newest + 1, listing):
                newest += 1
                store.publish_ver(newest, after=newest - 1)
                note(f"version {newest} of {store.name} was complete but not yet published: adopted")
            else:
                _drop_torn(store, newest + 1, found)
    _sweep_parts(store)  # after that: a temporary manifest shows what is ours
    return newest


def is_whole(store: BackupSet, number: int, listing: names.Listing) -> bool:
    """Tell whether a version that NAME.ver does not name yet is whole, linked and ours."""
    try:
        found = versions.version(store, number, listing)
        if found.manifest is None:
            return False
        chain.check_link(store, found)
        return all(store.hash(number, suffix) == entry for suffix, entry in found.manifest.files.items())
    except (NoSuchVersion, DamagedFile, NotOurFormat, StoreUnreadable, ChainBroken, OSError):
        return False


@contextlib.contextmanager
def _holding(store: BackupSet, number: int) -> Iterator[list[str]]:
    """Keep other runs from publishing or removing the files of a version that is not published.

    Gives their suffixes.  Raises SetLocked if a run that is active made them.
    """
    with contextlib.ExitStack() as held:
        suffixes = sorted(store.listing().versions.get(number, ()))
        for suffix in suffixes:
            try:
                fd = lock_alone(store.path(number, suffix))
            except Busy:
                raise SetLocked(store.name) from None
            if fd is not None:
                held.callback(os.close, fd)
        yield suffixes


def _sweep_parts(store: BackupSet) -> None:
    """Remove temporary files that a killed run of this set left; the lock is held.

    Raises SetLocked if one belongs to a running one: then the lock does not keep runs apart.
    """
    for name in store.listing().parts:
        if not remove_dead(os.path.join(store.folder, name)):
            raise SetLocked(store.name)


def _drop_torn_first(store: BackupSet, listing: names.Listing) -> None:
    """Remove what a first run left that was killed between its renames; its files are held.

    Such a run left the manifest under its temporary name, and every file of version 1 is
    one that it names with the SHA-256 it has.  A manifest alone, which earlier versions of the
    program left, counts for nothing.  Anything else is not touched.
    """
    if listing.versions[1] == {".json"} and _named(store, 1):
        _remove(store, 1, [".json"])
        return
    for path in _temporary_sheets(store, 1):
        if _tells_of_first(store, path, listing):
            _remove(store, 1, sorted(listing.versions[1]))
            return


def _drop_torn(store: BackupSet, number: int, found: list[str]) -> None:
    """Remove what a run of ours left at the number after NAME.ver's; these suffixes are held.

    Those are the files that its manifest names, be it under its own name or still under its
    temporary one.  Raises ForeignFiles if there are others; nothing was touched then.
    """
    named = _named(store, number)
    others = [store.path(number, suffix) for suffix in found if suffix not in named]
    if others:
        what = f"{' and '.join(others)}: above the newest version, and no manifest of ours names it"
        raise ForeignFiles(what, hint=f"{MOVE_AWAY}, or remove it with: rm -- {shlex.join(others)}")
    store.expect(number - 1)
    _remove(store, number, sorted(found, key=".json".__eq__))  # the manifest last: what is left is known by it


def _remove(store: BackupSet, number: int, suffixes: list[str]) -> None:
    for suffix in suffixes:
        path = store.path(number, suffix)
        try:
            os.unlink(path)
        except OSError as error:
            raise write_failed(error, path) from None


def _temporary_sheets(store: BackupSet, number: int) -> list[str]:
    """Return the paths of a version's manifests that have not got their names yet."""
    begin = names.member_name(store.base, number, ".json") + "."
    return [os.path.join(store.folder, name) for name in store.listing().parts if name.startswith(begin)]


def _named(store: BackupSet, number: int) -> set[str]:
    """Return the suffixes of the files that manifests of ours at this number name."""
    named: set[str] = set()
    with contextlib.suppress(FormatError, OSError):
        named |= {".json", *store.read_manifest(number).files}
    for path in _temporary_sheets(store, number):
        with contextlib.suppress(FormatError, OSError), open(path, "rb") as file:
            sheet = manifest.decode(file.read(manifest.MAX_SIZE + 1))
            named |= set(sheet.files) if sheet.version == number else set()
    return named


def _tells_of_first(store: BackupSet, path: str, listing: names.Listing) -> bool:
    try:
        with open(path, "rb") as file:
            files = manifest.decode(file.read(manifest.MAX_SIZE + 1)).files
        return all(files.get(suffix) == store.hash(1, suffix) for suffix in listing.versions[1])
    except (FormatError, OSError):
        return False
