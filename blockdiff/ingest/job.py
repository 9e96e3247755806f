"""One source of a run, the set that its next version goes to, and what that version continues."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from blockdiff import codecs
from blockdiff.ingest import members
from blockdiff.printable import Log
from blockdiff.sets import identity
from blockdiff.sets import parent as parents
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.parent import Parent
from blockdiff.sets.signatures import Signing
from blockdiff.sets.version import LOCAL
from blockdiff.source.opened import Opened
from blockdiff.source.prepared import Prepared
from blockdiff.source.wanted import AUTO, NONE, Wanted
from blockdiff.transport.base import Transport

Progress = Callable[[int, int], object]  # (bytes of the volume done now, bytes of the volume)


@dataclass(frozen=True)
class Job:
    """One source of a run, and the set that its next version goes to."""

    backup_set: BackupSet
    wanted: Wanted
    connect: Callable[[], Transport]  # starts the agent's command where the volume is
    progress: Progress = lambda done, size: None
    host: str = LOCAL  # of the volume, as its transport will name it
    label: str = ""  # put before its warnings and errors
    signing: Signing | None = None  # signs the manifest


class JobLog:
    """The lines of one job: its warnings are kept for its result, and bear its label."""

    def __init__(self, job: Job, warn: Log, note: Log) -> None:
        self._before = f"{job.label}: " if job.label else ""
        self._warn = warn
        self.note = note
        self.warnings: list[str] = []

    def warn(self, line: str) -> None:
        """Keep a warning, and pass it on."""
        self.warnings.append(line)
        self._warn(self._before + line)


@dataclass(frozen=True)
class Continuation:
    """What the next version of a job's set continues, and the source that it must be of."""

    job: Job
    log: JobLog
    parent: Parent
    block_size: int  # bytes
    source: identity.Check

    def accept(self, found: Prepared | Opened, *, keep_xxh: bool) -> None:
        """Refuse another volume than the set's, and one that has no room; warn if it is written to while it is read.

        `keep_xxh`: the version will have its XXH3-128 digests.  Raises SourceChanged or NoRoom.
        """
        self.source.see(found.size, found.lv_uuid, found.same)
        self.source.see_room(found.size, self.least(found.size, keep_xxh))
        self.source.see_digests(found.size, self.block_size)
        if isinstance(found, Opened) and found.users is not None:
            # the original's commands read it so as well, without a warning
            log = self.log.warn if self.job.wanted.snapshot == AUTO else self.log.note
            log(self.source.in_use(found.users))

    def least(self, size: int, keep_xxh: bool) -> int:
        """Return how many bytes the version of a volume of `size` bytes takes at least."""
        before = self.parent.version
        codec = codecs.BY_SUFFIX[self.job.wanted.suffix]
        known = before.count if before is not None else 0
        return members.least_stored(size, self.block_size, codec, known=known, keep_xxh=keep_xxh)


@contextlib.contextmanager
def continued(job: Job, newest: int, log: JobLog, number: int | None = None) -> Iterator[Continuation]:
    """Yield what the next version of a job's set continues; `newest` is the set's newest version, 0 if there is none.

    `number`: of the next version, if it is not the one after that.
    Raises BlockSizeDiffers or SourceChanged, or why there is no good parent if a full must not be made instead.
    """
    wanted, backup_set = job.wanted, job.backup_set
    found = parents.find(
        backup_set, newest, log.warn, log.note,
        number=number, full=wanted.full, auto_full=wanted.auto_full, block_size=wanted.block_size,
    )
    with contextlib.closing(found):
        block_size = wanted.block_size or found.block_size or wanted.default_block_size
        source = identity.Check(backup_set, newest, job.host, wanted.path, wanted.new_source)
        source.before_connecting(uuid_comes=wanted.snapshot != NONE)
        yield Continuation(job, log, found, block_size, source)
