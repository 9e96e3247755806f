"""Run a command while a database server is locked for reading, and prove that it was.

The lock is checked while the command runs and once more when it has ended, and only then
released. At its time limit it is released at once, whatever the command does: the command
is not stopped, but the run ends with LockLost.
"""

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from blockdiff.childprocess import Signals, exit_code
from blockdiff.errors import LockLost, ProgramMissing
from blockdiff.locking import gate

PING_S = 3.0  # between two checks; well below readlock.IDLE_S
MAX_HOLD_S = 60.0


class Lock(Protocol):
    """What is needed of a lock, such as readlock.ReadLock."""

    facts: dict[str, Any]

    @property
    def held_s(self) -> float:
        """Return for how long it has been held, in seconds."""

    def take(self) -> dict[str, Any]:
        """Lock, and return the facts about the lock."""

    def prove(self) -> None:
        """Raise LockLost unless it is still held."""

    def release(self) -> None:
        """Unlock."""


@dataclass(frozen=True)
class CommandResult:
    """The command's exit code, and the facts about the lock."""

    exit_code: int
    facts: dict[str, Any]


def run(
    command: Sequence[str],
    lock: Lock,
    *,
    environ: Mapping[str, str],
    max_hold_s: float = MAX_HOLD_S,
    log: Callable[[str], None],
) -> CommandResult:
    """Take the lock, run the command, release the lock.

    The facts are in the command's environment; if the command is a gate, its backup gets the
    final ones. HUP, INT and TERM are passed on to the command once it runs. Raises what
    lock.take raises, ProgramMissing, and LockLost if the lock was lost, or reached its time
    limit, before the command's end.
    """
    with Signals() as signals:
        try:
            facts = json.dumps(lock.take(), sort_keys=True)

            def spawn() -> subprocess.Popen[bytes]:
                return subprocess.Popen(command, env={**environ, gate.FACTS_VARIABLE: facts})

            try:
                child = signals.start(spawn)
            except OSError as error:
                raise ProgramMissing(command[0]) from error
            lost = _watch(child, lock, max_hold_s, log)
        finally:
            lock.release()
    if lost is not None:
        raise lost
    path = gate.path_in(list(command))
    if path is not None:
        try:
            gate.send(path, "released", json.dumps({"held_s": lock.facts.get("held_s")}))
        except OSError as error:
            log(f"warning: could not report to the backup how long the lock was held: {error.strerror}")
    return CommandResult(exit_code(child.returncode), lock.facts)


def _watch(
    child: subprocess.Popen[bytes], lock: Lock, max_hold_s: float, log: Callable[[str], None]
) -> LockLost | None:
    """Wait for the command's end; return the error if the lock was lost, else None."""
    while True:
        left_s = max_hold_s - lock.held_s
        ended = _ended(child, min(PING_S, max(0.0, left_s)))
        try:
            lock.prove()
        except LockLost as error:
            lost = error
            break
        if ended:
            return None
        if lock.held_s >= max_hold_s:
            lock.release()
            lost = LockLost(f"it was released after {max_hold_s:g} s, the limit of --max-hold")
            break
    if child.poll() is None:
        log(f"warning: {lost}; waiting for the command to end")
        child.wait()
    return lost


def _ended(child: subprocess.Popen[bytes], wait_s: float) -> bool:
    try:
        child.wait(wait_s)
    except subprocess.TimeoutExpired:
        return False
    return True
