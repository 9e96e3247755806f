"""The snapshots of all sources, made at one moment: inside one lock if there is one.

The lock is held while the snapshots are made and no longer: everything slow is done before
the lock, and reading begins after it.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from blockdiff.errors import SnapshotRefused
from blockdiff.printable import printable
from blockdiff.source.session import Session

if TYPE_CHECKING:
    from blockdiff.locking import lockcommand

Quiesce = Callable[[], AbstractContextManager["lockcommand.Lock"]]
_KEPT = ("method", "held_s", "waited_s", "server", "version", "binlog", "gtid")  # in the manifest


def snapshots(sessions: Sequence[Session], quiesce: Quiesce | None) -> dict[str, Any] | None:
    """Have all snapshots made that sessions wait for; returns the lock's facts for the manifest.

    With a lock, a session that reads its volume without a snapshot is refused, since it would read
    after the lock has ended.  Raises SnapshotRefused, what taking a snapshot raises, or
    the lock's own errors: then no snapshot may be used.
    """
    waiting = [session for session in sessions if session.from_snapshot]
    if quiesce is None:
        _take(waiting, None, lambda: None)
        return None
    for session in sessions:
        if not session.from_snapshot:
            raise SnapshotRefused(
                session.volume, "a lock is asked for, but this source is not a logical volume that is snapshotted"
            )
    with quiesce() as lock:
        _take(waiting, _places(lock.facts), lock.check)
        lock.release()
        return {name: _clean(lock.facts.get(name)) for name in _KEPT}


def _take(waiting: Sequence[Session], places: dict[str, Any] | None, check: Callable[[], None]) -> None:
    """Have all snapshots made, at once where they are on several hosts; `check` raises if the lock is lost."""
    for session in waiting:
        session.now(places)
    for session in waiting:
        session.taken(check)


def _places(facts: dict[str, Any]) -> dict[str, Any] | None:
    """Return where the locked application keeps its data, for the agent to look at; None if it is not known."""
    pid_file, directories = facts.get("pid_file"), facts.get("directories")
    if not isinstance(pid_file, str) or not isinstance(directories, list) or len(directories) > 64:
        return None
    hostname, port = facts.get("hostname"), facts.get("client_port")
    return {
        "pid_file": pid_file,
        "directories": [str(directory) for directory in directories],
        "hostname": hostname if isinstance(hostname, str) else None,
        "client_port": port if isinstance(port, int) and 0 < port < 1 << 16 else None,
    }


def _clean(value: Any) -> Any:
    """Return a fact in the form for the manifest: lock commands may be any programs."""
    if isinstance(value, dict):
        return {printable(name, 40): _clean(item) for name, item in list(value.items())[:8]}
    if value is None or isinstance(value, bool | int | float):
        return value
    return printable(value, 2000)
