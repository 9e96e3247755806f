"""What a backup would do: the source is looked at, and nothing is locked, made or written anywhere.

The source's agent opens the volume and says what it is; of a logical volume it says what its
snapshot would be.  What a run would refuse before its snapshot is refused here with the same error.
"""

import contextlib
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from blockdiff import codecs
from blockdiff.errors import BlockdiffError
from blockdiff.ingest import members
from blockdiff.ingest.job import Job
from blockdiff.sets import identity, parent, recover
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.parent import Log
from blockdiff.source import snapshots
from blockdiff.source.wanted import AUTO, NONE, request


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


def plan_all(jobs: Sequence[Job], *, quiet: snapshots.Quiesce | None, warn: Log, note: Log) -> list[Plan]:
    """Return what a run of these jobs would do, inside a lock if there is `quiet`.  Raises what stops a run."""
    plans = []
    for job in jobs:
        try:
            plans.append(_look(job, quiet, warn, note))
        except BlockdiffError as error:
            error.concern(job.label)
            raise
    return plans


def _newest(store: BackupSet, warn: Log) -> int:
    """Return the version that a run continues, which adopts one that is complete."""
    listing = store.listing()
    newest = 0
    if listing.has_ver or set(listing.versions) != {1}:
        newest = store.newest(listing)
    if newest + 1 in listing.versions and recover.is_whole(store, newest + 1, listing):
        warn(f"version {newest + 1} of {store.name} is complete but not published: a run would adopt it")
        newest += 1
    return newest


def _look(job: Job, quiet: snapshots.Quiesce | None, warn: Log, note: Log) -> Plan:
    wanted, store, warnings = job.wanted, job.store, list[str]()

    def caution(line: str) -> None:
        warnings.append(line)
        warn(f"{job.label}: {line}" if job.label else line)

    newest = _newest(store, note)
    before = parent.find(
        store, newest, caution, note, full=wanted.full, auto_full=wanted.auto_full, block_size=wanted.block_size
    )
    block_size = wanted.block_size or before.block_size or wanted.default_block_size
    source = identity.Check(store, newest, job.host, wanted.path, wanted.new_source)
    source.before_connecting(uuid_comes=wanted.snapshot != NONE)
    with contextlib.ExitStack() as held:
        held.callback(before.close)
        session = held.enter_context(wanted.session(job.connect(), note, note))
        terms = {"digest": session.hello.digest, "others": False, "old": None, "shared": None}
        asked = request(wanted, store, "", block_size=block_size, known=source.known, **terms)
        session.ask({**asked, "look": True})
        found = session.prepared
        if found is None:
            opened = session.opened(block_size)
            snapshots.snapshots([], [session], quiet)  # which it refuses if there is a lock
            told: dict[str, Any] = {"kind": opened.kind, "size": opened.size, "lv_uuid": None}
            same, users = opened.same, opened.users
        else:
            told = {"kind": found.kind, "size": found.size, "lv_uuid": found.lv_uuid}
            same, users = found.same, None
        for line in session.finish():
            caution(line)
    source.see(told["size"], told["lv_uuid"], same)
    codec, known = codecs.BY_SUFFIX[wanted.suffix], before.version.count if before.version is not None else 0
    least = members.least_stored(told["size"], block_size, codec, known=known, keep_xxh=before.version is None)
    source.see_room(told["size"], least)
    if users is not None:
        (caution if wanted.snapshot == AUTO else note)(source.in_use(users))
    return Plan(
        name=store.name,
        version=before.number,
        kind="full" if before.version is None else "incremental",
        parent=None if before.version is None else before.version.number,
        suffix=wanted.suffix,
        block_size=block_size,
        source={"host": job.host, "path": wanted.path, **told},
        snapshot=None if found is None else {"size": found.room},
        lock=quiet is not None,
        least=least,
        new_source=wanted.new_source,
        warnings=warnings,
    )
