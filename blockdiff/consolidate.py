"""Make a version anew out of stored ones: a full without its source, or an incremental on an older version.

Every block is proved before it is written, and the new file once more as it is on the disk.  The
lock is held only while the new files get their names.  Format: blockdiff-formats(5), "Rewriting a version".
"""

import contextlib
from dataclasses import dataclass, field

from blockdiff.blocks.parallel import Progress, silent
from blockdiff.errors import SetChanged, StoreRefused
from blockdiff.place import choose
from blockdiff.printable import Log
from blockdiff.rewriting import draft, plan
from blockdiff.sets import drop, recover, versions
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.signatures import Signing


@dataclass
class Consolidated:
    """What was done, or would be; sizes in bytes."""

    name: str
    version: int
    onto: int | None  # None: it is a full
    versions: int  # that were read
    read: int = 0  # of diff files
    stored: int = 0  # of the new diff file; 0 in a dry run
    copied: int = 0  # of it, copied as they were
    dropped: list[int] = field(default_factory=list)
    dry_run: bool = False
    already: bool = False  # there was nothing to do
    warnings: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0, or 3 if there are warnings."""
        return 3 if self.warnings else 0


def consolidate(
    backup_set: BackupSet,
    number: int | None,
    onto: int | None,
    *,
    wait_s: float,
    dry_run: bool = False,
    threads: int = 2,
    signing: Signing | None = None,
    progress: Progress = silent,
    proving: Progress = silent,
    note: Log = lambda line: None,
) -> Consolidated:
    """Make version `number` (None: the newest) a full, or an incremental on version `onto`.

    The versions between are removed then.  `wait_s`: how long to wait for the set's lock; `signing`: signs
    the version if it is signed; `progress` and `proving`: of what is read of the chain, and of the new file.
    Raises plan.NotInChain, or BlockdiffError; then nothing was changed, or all but the removal is done.
    """
    if choose.in_store(backup_set.folder):
        why = "a version has several files, and a store cannot replace them at one moment"
        raise StoreRefused(backup_set.name, why, hint="consolidate in a folder, or back up with --full")
    warnings: list[str] = []
    for again in (True, False):
        if not dry_run:
            with backup_set.locked(wait_s):
                recover.settle(backup_set, warnings.append)
        wanted, _ = versions.choose(backup_set, number, backup_set.settled_listing())
        made = plan.make(backup_set, wanted, onto, signing)
        numbers = [link.number for link in made.links]
        out = Consolidated(backup_set.name, wanted, onto, len(numbers), made.stored, dry_run=dry_run)
        out.warnings, out.already = warnings, len(numbers) == 1
        between = numbers[:-1] if onto is not None else []
        drop.check(backup_set, between, moved=[wanted])
        if dry_run:
            made.check_room()
            out.dropped = between
            return out
        if out.already:
            return out
        del made  # the manifests of a long chain are MiB
        try:
            with contextlib.ExitStack() as cleanup:
                new = draft.draft(
                    backup_set, wanted, onto, threads=threads, signing=signing, progress=progress, proving=proving
                )
                cleanup.callback(new.discard)
                with backup_set.locked(wait_s):
                    new.swap()
                    drop.drop(backup_set, between)
            out.read, out.stored, out.copied, out.dropped = new.read, new.stored, new.merged.copied, between
            return out
        except SetChanged:
            if not again:
                raise
            note(f"{backup_set.name} was changed meanwhile: beginning once more")
    raise AssertionError("the second time returns or raises")
