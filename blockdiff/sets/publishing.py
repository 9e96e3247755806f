"""How the files that a run wrote become a version.

Order of a backup, and what a crash leaves at each step:
1. every file is written under a temporary name (.part) and synced: nothing has happened;
2. each gets its final name, the digest file first and the manifest last, and the folder is
   synced: if all of them are there the next run adopts the version, otherwise it replaces it;
3. NAME.ver is replaced by rename: only now does the version exist.
The set's lock separates two runs.  If it does not (it was removed, or a network file system does
not support it), file names that are never replaced separate them: of two runs that write the same
version, one gets the digest file's name; the other ends and removes only files that it made itself.
If the file system does not even support the locks on a run's own files, one risk is left: a run that
begins may take files that another run has just named and not yet published for those of a dead run,
and remove them.
Format: blockdiff-formats(5), "Publishing".
"""

import contextlib
from collections.abc import Callable, Mapping

from blockdiff.errors import ForeignFiles, NotOurFormat, StoreUnreadable
from blockdiff.formats import FormatError, manifest, names
from blockdiff.place.base import Part
from blockdiff.sets.backupset import BackupSet

MOVE_AWAY = "another run, or another tool, may have left it; move it away"


def publish(
    backup_set: BackupSet,
    number: int,
    parts: Mapping[str, Part],
    value: manifest.NewManifest,
    last_look: Callable[[], object] = lambda: None,
) -> None:
    """Make the closed parts version `number`; `value` is what its manifest records of the run.

    `last_look` is called when all is on the disk, and may raise.  Raises NoRoom, StoreFailed,
    SetLocked or ForeignFiles; then the old state is unchanged, or everything except NAME.ver is done.
    """
    stored = {suffix: part.stored() for suffix, part in parts.items()}
    (diff,) = stored.keys() & names.DIFF_SUFFIXES
    try:
        data = value.encode(stored, diff)
    except FormatError as error:
        raise NotOurFormat(backup_set.name, error) from None
    sheet = backup_set.part(number, ".json")
    ordered = sorted(parts, key=lambda suffix: suffix != ".md5")  # the run that gets this name continues
    files = [*(parts[suffix] for suffix in ordered), sheet]
    try:
        sheet.write(data)
        sheet.close()
        if not backup_set.place.claims:
            last_look()
            _refuse_taken(backup_set, number)
        for part in files[:-1]:
            part.publish()
        for part in files[:-1]:
            part.check()
        if backup_set.place.claims:
            last_look()
        files[-1].publish()
        backup_set.sync()
        if backup_set.place.claims:
            backup_set.publish_ver(number)
        else:
            _name(backup_set, number, files)
    except BaseException:
        if backup_set.place.claims:  # what another run has claimed by now must not be removed: the next one settles
            sheet.discard()
            raise
        whole = all(part.has_its_name() for part in files) and not _moved(backup_set, number)
        # a complete version is adopted by the next run.  Of an incomplete first version, the temporary
        # manifest shows that it is ours and not another program's: so it is removed last, and only
        # if all files that it lists are removed
        left = [] if whole else [part for part in reversed(files) if not part.withdraw()]
        if not left:
            sheet.discard()
        sheet.release()
        raise
    for part in files:
        part.release()


def _moved(backup_set: BackupSet, number: int) -> bool:
    """Return whether NAME.ver names neither this version nor the one before."""
    with contextlib.suppress(StoreUnreadable):
        return not (backup_set.ver_is(number - 1) or backup_set.ver_is(number))
    return False


def _refuse_taken(backup_set: BackupSet, number: int) -> None:
    """Raise ForeignFiles if another run has published, or files of this number have appeared, since the run began."""
    backup_set.expect(number - 1)
    came = [backup_set.path(number, suffix) for suffix in sorted(backup_set.listing().versions.get(number, ()))]
    if came:
        raise ForeignFiles(f"{' and '.join(came)} appeared while version {number} was being made", hint=MOVE_AWAY)


def _name(backup_set: BackupSet, number: int, files: list[Part]) -> None:
    """Publish a version whose files have their names; another run may have adopted them already."""
    with contextlib.suppress(ForeignFiles):
        backup_set.expect(number)
        if all(part.has_its_name() for part in files):
            return
    if not all(part.has_its_name() for part in files):
        why = f"the files of version {number} were replaced by another run during this one"
        raise ForeignFiles(why, hint="nothing of this run was published; run again")
    backup_set.publish_ver(number, after=number - 1)
