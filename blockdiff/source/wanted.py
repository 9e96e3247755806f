"""What a user asked for of one source."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from blockdiff.place import choose
from blockdiff.printable import Log
from blockdiff.sets.backupset import BackupSet
from blockdiff.source import push
from blockdiff.source.session import PROGRESS_S, Session
from blockdiff.transport.base import Transport
from blockdiff.wire import messages
from blockdiff.wire.request import Request, SnapshotRequest

DEFAULT_BLOCK_SIZE = 64 * 1024  # bytes
DEFAULT_TIMEOUT_S = 120.0
DEFAULT_PROGRESS_S = PROGRESS_S
AUTO, MUST, NONE = "auto", "must", "none"  # whether to snapshot a source


@dataclass(frozen=True)
class Wanted:
    """What a user asked for."""

    path: str  # of the volume, on its host
    suffix: str = ".gz"  # of the diff file
    block_size: int | None = None  # bytes, an explicit option; must be the set's
    default_block_size: int = DEFAULT_BLOCK_SIZE  # bytes, for a set that has none yet
    full: bool = False
    auto_full: bool = True  # make a full if the parent cannot be continued
    rescan: bool = False  # compute every MD5, even where XXH3-128 shows no change
    snapshot: str = AUTO  # AUTO: of a logical volume; MUST: refuse any other volume; NONE: no snapshot
    live: bool = False  # reading without a snapshot is intended: do not report who may write to it meanwhile
    hints: bool = False  # read only what the pool of a thin volume knows to have changed, and leave a base there
    new_source: bool = False  # the set continues with this source, even if it is of another
    snapshot_size: str | None = None  # as lvcreate takes it, or a share as "15%"
    pack_wire: bool = False  # compress data on the wire
    threads: int = 0  # on each side; 0: by the cores
    bwlimit: int = 0  # bytes per second; 0: none
    timeout_s: float = DEFAULT_TIMEOUT_S  # silence of the other side
    verbose: bool = False  # log LVM's output, too
    progress_s: float = DEFAULT_PROGRESS_S  # only heartbeats of the other side
    pythons: Sequence[str] = push.PYTHONS  # that are tried there
    stderr_logged: bool = False  # what comes on the agent's stderr is logged as it comes

    def session(self, transport: Transport, note: Log, log: Log) -> Session:
        """Start the agent for it; see Session."""
        # the longest frame takes longer where the wire is limited
        slow_s = 2 * messages.MAX_DATA / self.bwlimit if self.bwlimit else 0.0
        return Session(
            transport, self.timeout_s, progress_s=self.progress_s + slow_s, snapshots=self.snapshot != NONE,
            pythons=self.pythons, stderr_logged=self.stderr_logged, note=note, log=log,
        )  # fmt: skip


def request(wanted: Wanted, set_tag: str, run_id: str, **more: Any) -> Request:
    """Return the request to the agent; `more`: further fields, as agreed with it."""
    snapshot = SnapshotRequest(
        size=wanted.snapshot_size, set=set_tag, run=run_id, must=wanted.snapshot == MUST, verbose=wanted.verbose
    )
    fields: dict[str, Any] = {
        "path": wanted.path,
        "users": not wanted.live,
        "compress": wanted.pack_wire,
        "jobs": wanted.threads,
        "bwlimit": wanted.bwlimit,
        "timeout_s": wanted.timeout_s,
        "snapshot": None if wanted.snapshot == NONE else snapshot,
    }
    return Request(**{**fields, **more})


def set_tag(backup_set: BackupSet) -> str:
    """Return the tag of a set's snapshots that names the set."""
    return hashlib.sha256(os.fsencode(choose.absolute(backup_set.name))).hexdigest()[:16]
