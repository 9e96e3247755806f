"""What a run that was killed while it gave a rewritten version its names left: the rest is done.

The diff file is replaced first, then the signature, and then the manifest and the index.  A manifest
that still has its temporary name, and that describes the diff file that is there, is whole: it was
written after the new diff file had been read back and proved.  Its signature is of the same run.
Format: blockdiff-formats(5), "Rewriting a version".
"""

import contextlib
import hashlib
import os

from blockdiff.formats import manifest, names
from blockdiff.place.base import Busy
from blockdiff.place.partfile import lock_alone, write_failed
from blockdiff.printable import Log
from blockdiff.sets.backupset import BackupSet


def finish(backup_set: BackupSet, newest: int, note: Log) -> None:
    """Finish the rewrites of versions up to `newest` that died half way; the set's lock is held."""
    parts = backup_set.listing().parts
    for suffix, done in ((".json", _finish_sheet), (".idx", _finish_index)):
        for name in parts:
            number, own = names.member_of(backup_set.base, name) or (newest + 1, "")
            if number > newest or own != suffix:
                continue
            path = os.path.join(backup_set.folder, name)
            with contextlib.suppress(Busy, ValueError, OSError):  # ValueError: what is not ours, or damaged
                fd = lock_alone(path)
                if fd is None:
                    continue
                try:
                    done(backup_set, number, path, note)
                finally:
                    os.close(fd)


def _finish_sheet(backup_set: BackupSet, number: int, path: str, note: Log) -> None:
    with open(path, "rb") as file:
        sheet = manifest.decode(file.read(manifest.MAX_SIZE + 1))
    (diff,) = sheet.files.keys() & names.DIFF_SUFFIXES
    if sheet.version != number or "rewritten" not in sheet.value:
        return
    if any(not _is(backup_set, number, suffix, sheet.files[suffix]) for suffix in (".md5", diff)):
        return
    parts = backup_set.listing().parts
    drafts = [name for name in parts if names.member_of(backup_set.base, name) == (number, ".sig")]
    if drafts:
        (signed,) = drafts
        _rename(backup_set, os.path.join(backup_set.folder, signed), number, ".sig")
    _rename(backup_set, path, number, ".json")
    note(f"version {number} of {backup_set.name} was being rewritten by a run that was killed: now it is complete")


def _finish_index(backup_set: BackupSet, number: int, path: str, note: Log) -> None:
    sheet = backup_set.read_manifest(number)
    (diff,) = sheet.files.keys() & names.DIFF_SUFFIXES
    if os.path.lexists(backup_set.path(number, ".idx")) or ".idx" not in sheet.files:
        return
    with open(path, "rb") as file:
        data = file.read(sheet.files[".idx"].size + 1)
    entry = manifest.StoredFile(len(data), hashlib.sha256(data).hexdigest())
    if backup_set.size(number, diff) == sheet.files[diff].size and entry == sheet.files[".idx"]:
        _rename(backup_set, path, number, ".idx")


def _is(backup_set: BackupSet, number: int, suffix: str, entry: manifest.StoredFile) -> bool:
    return backup_set.size(number, suffix) == entry.size and backup_set.hash(number, suffix) == entry


def _rename(backup_set: BackupSet, path: str, number: int, suffix: str) -> None:
    try:
        os.rename(path, backup_set.path(number, suffix))
    except OSError as error:
        raise write_failed(error, path) from None
    backup_set.sync()
