"""How the files that a run wrote become a version.

Order of a backup, and what a crash leaves at each step:
1. every file is written under a temporary name (.part) and synced: nothing has happened;
2. each gets its final name, the digest file first and the manifest last, and the folder is
   synced: if all of them are there the next run adopts the version, otherwise it replaces it.
   A signature is on the disk, under its final name, before the manifest is: no crash makes a
   version that was to be signed one that is not;
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

from blockdiff.errors import BlockdiffError, ForeignFiles, NotOurFormat, StoreUnreadable
from blockdiff.formats import FormatError, manifest, names
from blockdiff.place.base import Part
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.signatures import Signing

MOVE_AWAY = "another run, or another tool, may have left it; move it away"


def publish(
    backup_set: BackupSet,
    number: int,
    parts: Mapping[str, Part],
    value: manifest.NewManifest,
    last_look: Callable[[], object] = lambda: None,
    signing: Signing | None = None,
) -> None:
    """Make the closed parts version `number`, which comes after `number` - 1.

    `value` is what its manifest records of the run; `last_look` is called when all is on the disk, and
    may raise; `signing` signs the manifest.  Raises NoRoom, StoreFailed, SetLocked, ForeignFiles or
    CannotSign; then the old state is unchanged, or everything except NAME.ver is done.
    """
    stored = {suffix: part.stored() for suffix, part in parts.items()}
    (diff,) = stored.keys() & names.DIFF_SUFFIXES
    try:
        data = value.encode(stored, diff)
    except FormatError as error:
        raise NotOurFormat(backup_set.name, error) from None
    signed = signing.sign(data) if signing is not None else None
    publish_as(backup_set, number, parts, data, number - 1, last_look, signed)


def publish_as(
    backup_set: BackupSet,
    number: int,
    parts: Mapping[str, Part],
    data: bytes | None,
    after: int,
    last_look: Callable[[], object] = lambda: None,
    signed: bytes | None = None,
) -> None:
    """Make the closed parts version `number` of a set whose newest version is `after`; 0: it has none.

    `data`: the version's manifest; None: it has none, as a version of the original.  `signed`: its signature,
    unless that is among the parts.  The rest is as in `publish`.
    """
    sheet = None if data is None else backup_set.part(number, ".json")
    # a manifest shows whose the files are, so the run that gets this name continues; without one it is the last one
    ordered = sorted(parts, key=lambda suffix: (suffix != ".md5") == (data is not None))
    files = [*(parts[suffix] for suffix in ordered), *([] if sheet is None else [sheet])]
    signature = None
    try:
        if sheet is not None and data is not None:
            sheet.write(data)
            sheet.close()
        if signed is not None:
            signature = backup_set.part(number, ".sig")
            files.insert(-1, signature)
            signature.write(signed)
            signature.close()
        if not backup_set.place.claims:
            last_look()
            _refuse_taken(backup_set, number, after)
        for part in files[:-1]:
            part.publish()
        for part in files[:-1]:
            part.check()
        if backup_set.place.claims:
            last_look()
        elif signature is not None or ".sig" in parts:
            backup_set.sync()
        files[-1].publish()
        files[-1].check()
        backup_set.sync()
        if backup_set.place.claims:
            files[0].check()  # a run that believes this one dead removes it first
            if not backup_set.goes_on_after(number):  # else such a run has published this version, and its own
                backup_set.publish_ver(number)
        else:
            _name(backup_set, number, after, files)
    except BaseException:
        if backup_set.place.claims:  # what another run has claimed by now must not be removed: the next one settles
            for part in files:
                part.discard()
            raise
        # a complete version is adopted by the next run.  Of an incomplete first version, the temporary
        # manifest shows that it is ours and not another program's: so it is removed last, and only
        # if all files that it lists are removed
        try:
            whole = all(part.has_its_name() for part in files) and not _moved(backup_set, number, after)
            left = [] if whole else [part for part in reversed(files) if not part.withdraw()]
        except BlockdiffError:  # what is there is not known, and the next run finds out
            left = files
        if signature is not None:
            signature.discard()
        if sheet is not None:
            if not left:
                sheet.discard()
            sheet.release()
        raise
    for part in files:
        part.release()


def _moved(backup_set: BackupSet, number: int, after: int) -> bool:
    """Return whether NAME.ver names neither this version nor the one before."""
    with contextlib.suppress(StoreUnreadable):
        return not (backup_set.ver_is(after) or backup_set.ver_is(number))
    return False


def _refuse_taken(backup_set: BackupSet, number: int, after: int) -> None:
    """Raise ForeignFiles if another run has published, or files of this number have appeared, since the run began."""
    backup_set.expect(after)
    came = [backup_set.path(number, suffix) for suffix in sorted(backup_set.listing().versions.get(number, ()))]
    if came:
        raise ForeignFiles(f"{' and '.join(came)} appeared while version {number} was being made", hint=MOVE_AWAY)


def _name(backup_set: BackupSet, number: int, after: int, files: list[Part]) -> None:
    """Publish a version whose files have their names; another run may have adopted them already."""
    with contextlib.suppress(ForeignFiles):
        backup_set.expect(number)
        if all(part.has_its_name() for part in files):
            return
    if not all(part.has_its_name() for part in files):
        why = f"the files of version {number} were replaced by another run during this one"
        raise ForeignFiles(why, hint="nothing of this run was published; run again")
    backup_set.publish_ver(number, after=after)
