"""One source of a run, and the set that its next version goes to."""

from collections.abc import Callable
from dataclasses import dataclass

from blockdiff.sets import identity
from blockdiff.sets.backupset import BackupSet
from blockdiff.source.wanted import Wanted
from blockdiff.transport.base import Transport

Progress = Callable[[int, int], object]  # (bytes of the volume done now, bytes of the volume)


@dataclass(frozen=True)
class Job:
    """One source of a run, and the set that its next version goes to."""

    store: BackupSet
    wanted: Wanted
    connect: Callable[[], Transport]  # starts the agent's command where the volume is
    progress: Progress = lambda done, size: None
    host: str = identity.LOCAL  # of the volume, as its transport will name it
    label: str = ""  # stands before its warnings and errors
