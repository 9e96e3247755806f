"""What a backup would do: the source is looked at, and nothing is locked, made or written anywhere.

The source's agent opens the volume and describes it; of a logical volume it describes the
snapshot that would be made.  What a run would refuse before its snapshot is refused here with the same error.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from blockdiff.errors import BlockdiffError
from blockdiff.ingest.job import Job, JobLog, continued
from blockdiff.printable import Log
from blockdiff.sets import recover
from blockdiff.sets.backupset import BackupSet
from blockdiff.source import snapshots
from blockdiff.source.opened import Opened
from blockdiff.source.prepared import Prepared
from blockdiff.source.wanted import request, set_tag


@dataclass
class Plan:
    """What the next run of a job would do."""

    name: str
    version: int
    kind: str  # "full" or "incremental"
    parent: int | None
    suffix: str  # of the diff file
    block_size: int  # bytes
    source: dict[str, Any]  # as in the manifest
    snapshot: dict[str, Any] | None  # its size in bytes, None for a thin one
    lock: bool  # the snapshot is made inside a lock
    least: int  # bytes that the version takes at least
    new_source: bool
    warnings: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0, or 3 if there are warnings."""
        return 3 if self.warnings else 0

    def as_json(self) -> dict[str, Any]:
        """Return it for --json."""
        return {**dataclasses.asdict(self), "dry_run": True}


def plan_all(jobs: Sequence[Job], *, quiesce: snapshots.Quiesce | None, warn: Log, note: Log) -> list[Plan]:
    """Return what a run of these jobs would do, inside a lock if `quiesce` is given.  Raises what a run would."""
    plans = []
    for job in jobs:
        try:
            plans.append(_plan(job, quiesce, JobLog(job, warn, note)))
        except BlockdiffError as error:
            error.concern(job.label)
            raise
    return plans


def _newest(backup_set: BackupSet, warn: Log) -> int:
    """Return the version that a run would continue; a run first adopts one that is complete."""
    listing = backup_set.listing()
    newest = 0
    if listing.has_ver or set(listing.versions) != {1}:
        newest = backup_set.newest(listing)
    if newest + 1 in listing.versions and recover.is_whole(backup_set, newest + 1, listing):
        warn(f"version {newest + 1} of {backup_set.name} is complete but not published: a run would adopt it")
        newest += 1
    return newest


def _plan(job: Job, quiesce: snapshots.Quiesce | None, log: JobLog) -> Plan:
    wanted, backup_set = job.wanted, job.backup_set
    with continued(job, _newest(backup_set, log.note), log) as of:
        with wanted.session(job.connect(), log.note, log.note) as session:
            terms = {"block_size": of.block_size, "digest": session.hello.digest}
            found = session.ask(request(wanted, set_tag(backup_set), "", known=of.source.known, look=True, **terms))
            if isinstance(found, Opened):
                snapshots.snapshots([session], quiesce)  # this refuses a source without a snapshot if there is a lock
            for line in session.finish():
                log.warn(line)
        keep_xxh = of.parent.version is None
        of.accept(found, keep_xxh=keep_xxh)
        source = {"kind": found.kind, "size": found.size, "lv_uuid": found.lv_uuid}
        return Plan(
            name=backup_set.name,
            version=of.parent.number,
            kind="full" if of.parent.version is None else "incremental",
            parent=None if of.parent.version is None else of.parent.version.number,
            suffix=wanted.suffix,
            block_size=of.block_size,
            source={"host": job.host, "path": wanted.path, **source},
            snapshot={"size": found.room} if isinstance(found, Prepared) else None,
            lock=quiesce is not None,
            least=of.least(found.size, keep_xxh),
            new_source=wanted.new_source,
            warnings=log.warnings,
        )
