"""A version rewritten: the draft that is whole and proved, and its change into the version's files.

What a crash leaves at each step:
- before it is whole: temporary files, which the next run removes;
- R0, drafts of the diff file, its index and the manifest: nothing has happened;
- R1, the index is removed, since it is not of the new diff file;
- R2, the diff file is replaced: all versions restore, and the old manifest is still that of the version;
- of a signed version, the signature is replaced: it is of the manifest that still has its temporary name;
- R3, the manifest is replaced: from now on the version stands on another one;
- R4, the index is there again.
From R2 on, the next run that locks the set does what is left (sets/rollforward.py).
Format: blockdiff-formats(5), "Rewriting a version".
"""

import contextlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from blockdiff import codecs
from blockdiff.blocks.parallel import Progress, silent
from blockdiff.blocks.versioncheck import VersionCheck
from blockdiff.errors import DigestMismatch, NotOurFormat, SetChanged, StoreUnreadable
from blockdiff.formats import FormatError, manifest
from blockdiff.place.folder import open_file
from blockdiff.place.partfile import PartFile, in_folder, write_failed
from blockdiff.rewriting import folding, merge, newmanifest, plan
from blockdiff.rewriting.merge import Merged
from blockdiff.rewriting.plan import Plan
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.digests import Digests
from blockdiff.sets.newdiff import NewDiff
from blockdiff.sets.signatures import Signing
from blockdiff.sets.version import VersionFiles

_KEPT = "the version is as it was"


@dataclass
class Draft:
    """A version's new files, on the disk and proved, under temporary names."""

    plan: Plan
    merged: Merged
    read: int  # bytes of diff files
    stored: int  # bytes of its own diff file
    _new: NewDiff
    _sheet: PartFile
    _signed: PartFile | None

    @property
    def number(self) -> int:
        """The version that it is of."""
        return self.plan.version.number

    def swap(self) -> None:
        """Make the draft the version's files; the set's lock is held.

        Raises SetChanged, and then nothing was done, if anything that it rests on is not as it was;
        StoreFailed or NoRoom.
        """
        backup_set = self.plan.backup_set
        self.plan.check()
        if not all(part.is_there() for part in self._parts):
            raise SetChanged(backup_set.name)
        index = backup_set.path(self.number, ".idx")
        if os.path.lexists(index):
            try:
                os.unlink(index)
            except OSError as error:
                raise write_failed(error, index) from None
            backup_set.sync()
        self._replace(self._new.files[self._new.suffix])
        if self._signed is not None:
            self._replace(self._signed)
        self._replace(self._sheet)
        if ".idx" in self._new.files:
            self._replace(self._new.files[".idx"])
        self._release()

    def _replace(self, part: PartFile) -> None:
        part.replace()
        self.plan.backup_set.sync()

    @property
    def _parts(self) -> list[PartFile]:
        return [*self._new.files.values(), *filter(None, [self._signed]), self._sheet]

    def _release(self) -> None:
        for part in self._parts:
            part.release()

    def discard(self) -> None:
        """Remove the draft unless it was swapped; never raises.

        A swap that failed, or was interrupted, after the diff file had its name is left for the next run.
        """
        if self._new.files[self._new.suffix].has_its_name():
            self._release()
        else:
            self._new.discard()
            for part in self._parts:
                part.discard()


def draft(
    backup_set: BackupSet,
    number: int,
    onto: int | None,
    *,
    threads: int,
    signing: Signing | None = None,
    progress: Progress = silent,
    proving: Progress = silent,
) -> Draft:
    """Rewrite version `number` onto version `onto`, or as a full, and return the draft.

    The set was settled, and is not locked now.  `progress` and `proving`: of what is read from the
    chain, for a long one several times, and then from the draft.  `signing` signs a version that is
    signed: an unsigned one stays so, since nobody vouches for it.  The caller calls `discard` in the
    end.  Raises NotInChain, or BlockdiffError; then nothing is left of it.
    """
    made = plan.make(backup_set, number, onto, signing)
    made.check_room()
    workers = ThreadPoolExecutor(threads, thread_name_prefix="rewrite")
    with made.reading(), workers as pool, contextlib.ExitStack() as failed:
        with contextlib.ExitStack() as cleanup:
            files, read = folding.folded(made, pool, cleanup, progress)
            base, link = _base(made, cleanup)
            done = cleanup.enter_context(progress(folding.stored(files)))
            new = NewDiff(backup_set, number, codecs.BY_SUFFIX[made.version.suffix], made.version.block_size)
            failed.callback(new.discard)
            merged = merge.merge(files, base, new, pool, done)
            new.close(merged.payload)
        stored = {suffix: part.stored() for suffix, part in new.files.items()}
        try:
            data = newmanifest.encode(made, merged, read + merged.read, stored, link)
        except FormatError as error:
            raise NotOurFormat(backup_set.path(number, ".json"), error) from None
        except OSError as error:
            raise StoreUnreadable(backup_set.path(number, ".md5"), error.strerror) from None
        with proving(stored[new.suffix].size) as done:
            _prove(made, merged, new, manifest.decode(data), pool, done)
        part = in_folder(backup_set.part(number, ".json"))
        failed.callback(part.discard)
        part.write(data)
        part.close()
        signed = None
        if made.signed and signing is not None:
            signed = in_folder(backup_set.part(number, ".sig"))
            failed.callback(signed.discard)
            signed.write(signing.sign(data))
            signed.close()
        backup_set.sync()
        failed.pop_all()
    return Draft(made, merged, read + merged.read, stored[new.suffix].size, new, part, signed)


def _base(made: Plan, cleanup: contextlib.ExitStack) -> tuple[Digests | None, str | None]:
    """Return the digests of the version that the new one stands on, and the SHA-256 of their file."""
    if made.onto is None:
        return None, None
    digests = cleanup.enter_context(
        Digests(made.backup_set.path(made.onto.number, ".md5"), made.onto.count, made.backup_set.place.open)
    )
    return digests, digests.seal()


def _prove(
    made: Plan, merged: Merged, new: NewDiff, described: manifest.Manifest, pool: ThreadPoolExecutor,
    progress: Callable[[int], object],
) -> None:  # fmt: skip
    """Read the draft back from the disk as every reader does; it must have exactly what was merged.

    Raises DigestMismatch or what reading it finds.
    """
    for part in new.files.values():
        part.forget()
    version = replace(made.version, manifest=described, parent=described.parent)
    index = new.files.get(".idx")
    diff = new.files[new.suffix].path
    digests = made.backup_set.path(version.number, ".md5")
    files = VersionFiles(version, diff, digests, index.path if index else None, open_file)
    with Digests(files.digests, version.count) as own:
        check = VersionCheck(files, own, progress)
        check.run(pool)
    faults: list[object] = [*check.faults, *check.warnings]
    if list(check.found.runs()) != list(merged.records.runs()):
        faults.append("it does not have the blocks that were written")
    if index is not None and not index.is_on_disk():
        faults.append("its index is not as it was written")
    if faults:
        raise DigestMismatch(diff, f"the new file read back from the disk: {faults[0]}", hint=_KEPT)
