"""Bring an application to rest for the moment of a snapshot: with a lock command, or not at all.

The lock command is anybody's program that takes a lock, runs the command it is given,
releases the lock and passes on that command's exit code; it is given the gate (gate.py).
Only an exit code of 0, after the gate was called exactly once and told that the snapshot
stands, proves that the lock was held all the time. Whatever else happens raises, and the
snapshot must then be discarded.

This process dying ends the gate, since its socket closes; the gate's end makes the lock
command release its lock. Every wait here is bounded.
"""

import contextlib
import json
import os
import select
import shutil
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from blockdiff.childprocess import exit_code
from blockdiff.errors import BlockdiffError, LockLost, LockNotGranted, LockUnreachable, ProgramMissing
from blockdiff.locking import gate

POLL_S = 0.05
END_S = 30.0  # for a lock command to unlock and end
STOP_S = 5.0  # for one that was told to stop, before it is killed
_READ_S = 5.0  # for a line from somebody who has connected
_MAX_PATH = 100  # bytes; the kernel's limit for a socket's path is 107
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


class Lock:
    """A lock that is held from the start of a `with` until `release`; here: none at all.

    `facts` says what is known of it, for the manifest: empty without a lock; else method,
    waited_s, held_s (once released) and what the lock command handed over. `release` says
    that the snapshot stands; it raises LockLost if the lock was not held until then. So does
    `check`, which may be asked at any time before.
    """

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}

    def check(self) -> None:
        """Raise LockLost if the lock is known not to be held any more."""

    def release(self) -> None:
        """Say that the snapshot stands."""


@contextlib.contextmanager
def locked(
    command: Sequence[str],
    *,
    timeout_s: float = 900.0,
    hold_s: float = 300.0,
    peers: frozenset[int] = frozenset(),
    log: Callable[[str], None],
) -> Iterator[Lock]:
    """Start a lock command and yield its Lock once it is held; release it in the end.

    `timeout_s` is for the lock to be granted, `hold_s` for the snapshot to stand. `peers` are
    users (uids) whose gate is trusted beside our own and root's: whoever sudo came from. An
    exception in the body gives the lock up. Raises ProgramMissing, LockUnreachable or
    LockNotGranted on entering, LockLost on leaving or from `release`.
    """
    if not command or shutil.which(command[0]) is None:
        raise ProgramMissing(command[0] if command else "(no lock command)")
    with contextlib.ExitStack() as held:
        folder = _private_folder(held, peers)
        lock = _PrefixLock(command, folder, timeout_s=timeout_s, hold_s=hold_s, peers=peers, log=log)
        held.callback(lock.close)
        lock.enter()
        yield lock
        lock.release()


def _private_folder(held: contextlib.ExitStack, peers: frozenset[int]) -> str:
    """Make the folder of the socket, for its owner only, until `held` ends."""
    folder = tempfile.mkdtemp(prefix="blockdiff-")
    if len(os.fsencode(folder)) > _MAX_PATH - len("/gate"):
        os.rmdir(folder)
        folder = tempfile.mkdtemp(prefix="blockdiff-", dir="/tmp")

    def remove() -> None:
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(folder, "gate"))
        with contextlib.suppress(OSError):
            os.rmdir(folder)

    held.callback(remove)
    _give(folder, peers)
    return folder


def _give(path: str, peers: frozenset[int]) -> None:
    """Let the user that sudo came from in; root itself needs no permission."""
    if os.geteuid() == 0 and len(peers) == 1:
        os.chown(path, next(iter(peers)), -1)


class _PrefixLock(Lock):
    def __init__(
        self,
        command: Sequence[str],
        folder: str,
        *,
        timeout_s: float,
        hold_s: float,
        peers: frozenset[int],
        log: Callable[[str], None],
    ) -> None:
        super().__init__()
        self._name = os.path.basename(command[0])  # the rest of the words may hold a password
        self._timeout_s = timeout_s
        self._trusted = peers | {0, os.geteuid()}
        self._log = log
        self._begun = time.monotonic()
        self._locked_at: float | None = None
        self._gate: socket.socket | None = None
        self._released = False
        self._calls = 0
        path = os.path.join(folder, "gate")
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._listener.bind(path)
            os.chmod(path, 0o600)
            _give(path, peers)
            self._listener.listen(8)
            # nothing of ours on its stdin; its output beside our own messages, since our
            # stdout may be the dump
            self._process = subprocess.Popen(
                [*command, *gate.command(path, hold_s)], stdin=subprocess.DEVNULL, stdout=2
            )
        except OSError as error:
            self._listener.close()
            raise LockNotGranted(f"{self._name} cannot be started: {error.strerror}") from error

    def enter(self) -> None:
        """Wait until the gate says that the lock is held."""
        deadline = self._begun + self._timeout_s
        while self._calls == 0:
            ended = self._process.poll() is not None  # looked at first: it may call, then end
            self._accept()
            if self._calls:
                break
            if ended:
                raise self._refusal()
            if time.monotonic() >= deadline:
                raise LockNotGranted(f"{self._name} did not run its command within {self._timeout_s:g} s")
        self._locked_at = time.monotonic()
        self.facts.setdefault("method", self._name)
        self.facts.setdefault("waited_s", round(self._locked_at - self._begun, 3))

    def check(self) -> None:
        assert self._gate is not None
        if self._process.poll() is not None or select.select([self._gate], [], [], 0)[0]:
            raise LockLost(f"{self._name} or the gate that it ran ended too early")

    def release(self) -> None:
        """Say that the snapshot stands, and see the lock command end well."""
        if self._released:
            return
        self._released = True
        assert self._gate is not None and self._locked_at is not None
        self.check()
        try:
            self._gate.sendall(b"stands\n")
        except OSError as error:
            raise LockLost(f"the gate that {self._name} ran ended too early") from error
        self.facts["held_s"] = round(time.monotonic() - self._locked_at, 3)
        deadline = time.monotonic() + END_S
        while self._process.poll() is None:
            if time.monotonic() >= deadline:
                raise LockLost(f"{self._name} did not end within {END_S:g} s after the snapshot stood")
            self._accept()
        while self._accept(0):
            pass
        if self._process.returncode:
            code = exit_code(self._process.returncode)
            raise LockLost(f"{self._name} ended with exit code {code}")
        if self._calls != 1:
            raise LockLost(f"{self._name} ran the command that it was given {self._calls} times")

    def close(self) -> None:
        """End everything: a gate that was not told otherwise fails, and the lock goes with it."""
        if self._gate is not None:
            self._gate.close()
        self._listener.close()
        if self._process.poll() is None:
            self._stop()

    def _stop(self) -> None:
        if self._calls:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_S)  # its gate has just failed, so it ends by itself
                return
        with contextlib.suppress(PermissionError):  # sudo's, say: it is root's
            for end in (self._process.terminate, self._process.kill):
                end()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(STOP_S)
                    return
        self._log(f"warning: {self._name} (process {self._process.pid}) does not end")

    def _accept(self, wait_s: float = POLL_S) -> bool:
        """Take what the next caller says, if there is one; return whether there was."""
        if not select.select([self._listener], [], [], wait_s)[0]:
            return False
        caller, _ = self._listener.accept()
        keep = False
        try:
            verb, facts = self._hear(caller)
            self.facts.update(facts)
            if verb == "locked":
                self._calls += 1
                keep = self._calls == 1
        finally:
            if keep:
                self._gate = caller
            else:
                caller.close()
        return True

    def _hear(self, caller: socket.socket) -> tuple[str, dict[str, Any]]:
        """Return the verb and the facts of a trusted caller's line; ("", {}) of anything else."""
        credentials = caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, uid, _ = _CREDENTIALS.unpack(credentials)
        if uid not in self._trusted:
            self._log(f"warning: a process of user {uid} called the gate's socket and was not heard")
            return "", {}
        said = b""
        deadline = time.monotonic() + _READ_S
        try:
            while not said.endswith(b"\n") and len(said) <= gate.MAX_LINE:
                caller.settimeout(max(0.001, deadline - time.monotonic()))
                piece = caller.recv(4096)
                if not piece:
                    break
                said += piece
        except OSError:
            return "", {}
        verb, _, text = said.decode("utf-8", "replace").rstrip("\n").partition(" ")
        if not said.endswith(b"\n") or verb not in ("locked", "released"):
            return "", {}
        try:
            facts = json.loads(text) if text else {}
        except ValueError:
            facts = None
        if not isinstance(facts, dict):
            self._log(f"warning: {self._name} handed over facts that are not a JSON object")
            facts = {}
        return verb, facts

    def _refusal(self) -> BlockdiffError:
        """Return the error for a lock command that ended without having run the gate."""
        code = exit_code(self._process.returncode)
        text = f"{self._name} ended with exit code {code} without running the command that it was given"
        return LockUnreachable(text) if code == LockUnreachable.exit_code else LockNotGranted(text)
