"""Hold the lock of a lock command while a snapshot is made.

A lock command is any program that takes a lock, runs the command that follows it, releases
the lock and passes on that command's exit code. The command that it runs is the gate (gate.py).
Only an exit code of 0, after the gate was started exactly once and got the message that the
snapshot is made, proves that the lock was held all the time. Anything else raises an error, and the
snapshot must then be discarded.

If this process dies, its socket closes and the gate ends; then the lock command releases its
lock. Every wait here is bounded.
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
END_S = 30.0  # how long a lock command may take to unlock and end
STOP_S = 5.0  # how long one may take to end after a signal, before the next signal
_READ_S = 5.0  # how long a process that has connected may take to send its line
_MAX_PATH = 100  # bytes; the kernel's limit for a socket's path is 107
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


class Lock:
    """A lock that is held from the start of a `with` until `release`.

    `facts`, for the manifest: method, waited_s, held_s (once released) and the facts that the lock
    command reported.
    """

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
        self.facts: dict[str, Any] = {}
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
            # not our stdin; its output goes where our messages go, since our stdout may be the dump
            self._process = subprocess.Popen(
                [*command, *gate.command(path, hold_s)], stdin=subprocess.DEVNULL, stdout=2
            )
        except OSError as error:
            self._listener.close()
            raise LockNotGranted(f"{self._name} cannot be started: {error.strerror}") from error

    def enter(self) -> None:
        """Wait until the gate reports that the lock is held."""
        deadline = self._begun + self._timeout_s
        while self._calls == 0:
            ended = self._process.poll() is not None  # before accept: it may start the gate, then end
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
        """Raise LockLost if the lock is known not to be held any more."""
        assert self._gate is not None
        if self._process.poll() is not None or select.select([self._gate], [], [], 0)[0]:
            raise LockLost(f"{self._name} or the gate that it ran ended too early")

    def release(self) -> None:
        """Report to the gate that the snapshot is made; raise LockLost unless the lock command then ends with 0."""
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
                raise LockLost(f"{self._name} did not end within {END_S:g} s after the snapshot")
            self._accept()
        while self._accept(0):
            pass
        if self._process.returncode:
            code = exit_code(self._process.returncode)
            raise LockLost(f"{self._name} ended with exit code {code}")
        if self._calls != 1:
            raise LockLost(f"{self._name} ran the command that follows it {self._calls} times")

    def close(self) -> None:
        """End everything: a gate without the message that the snapshot is made fails, and the lock is released."""
        if self._gate is not None:
            self._gate.close()
        self._listener.close()
        if self._process.poll() is None:
            self._stop()

    def _stop(self) -> None:
        if self._calls:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_S)  # its gate has just failed, so it should end without a signal
                return
        with contextlib.suppress(PermissionError):  # a process of root's, started by sudo
            for end in (self._process.terminate, self._process.kill):
                end()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(STOP_S)
                    return
        self._log(f"warning: {self._name} (process {self._process.pid}) does not end")

    def _accept(self, wait_s: float = POLL_S) -> bool:
        """Take the line of the next process that connects; return whether there was one."""
        if not select.select([self._listener], [], [], wait_s)[0]:
            return False
        caller, _ = self._listener.accept()
        keep = False
        try:
            verb, facts = self._read_line(caller)
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

    def _read_line(self, caller: socket.socket) -> tuple[str, dict[str, Any]]:
        """Return the verb and the facts of a trusted process's line; ("", {}) for anything else."""
        credentials = caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, uid, _ = _CREDENTIALS.unpack(credentials)
        if uid not in self._trusted:
            self._log(f"warning: a process of user {uid} connected to the gate's socket and was ignored")
            return "", {}
        received = b""
        deadline = time.monotonic() + _READ_S
        try:
            while not received.endswith(b"\n") and len(received) <= gate.MAX_LINE:
                caller.settimeout(max(0.001, deadline - time.monotonic()))
                piece = caller.recv(4096)
                if not piece:
                    break
                received += piece
        except OSError:
            return "", {}
        verb, _, text = received.decode("utf-8", "replace").rstrip("\n").partition(" ")
        if not received.endswith(b"\n") or verb not in ("locked", "released"):
            return "", {}
        try:
            facts = json.loads(text) if text else {}
        except ValueError:
            facts = None
        if not isinstance(facts, dict):
            self._log(f"warning: {self._name} gave facts that are not a JSON object")
            facts = {}
        return verb, facts

    def _refusal(self) -> BlockdiffError:
        """Return the error for a lock command that ended without having run the gate."""
        code = exit_code(self._process.returncode)
        text = f"{self._name} ended with exit code {code} without running the command that follows it"
        return LockUnreachable(text) if code == LockUnreachable.exit_code else LockNotGranted(text)


@contextlib.contextmanager
def locked(
    command: Sequence[str],
    *,
    timeout_s: float = 900.0,
    hold_s: float = 300.0,
    peers: frozenset[int] = frozenset(),
    log: Callable[[str], None],
) -> Iterator[Lock]:
    """Start a lock command, yield its Lock once it is held, and release it at the end.

    `timeout_s`: how long the lock command may wait for its lock; `hold_s`: how long the snapshot
    may take. `peers`: users (uids) whose gate is trusted besides our own and root's: the user that
    sudo came from. An exception in the body releases the lock. Raises ProgramMissing,
    LockUnreachable or LockNotGranted on entering, LockLost on leaving or from `release`.
    """
    if not command or shutil.which(command[0]) is None:
        raise ProgramMissing(command[0] if command else "(no lock command)")
    with contextlib.ExitStack() as stack:
        folder = _private_folder(stack, peers)
        lock = Lock(command, folder, timeout_s=timeout_s, hold_s=hold_s, peers=peers, log=log)
        stack.callback(lock.close)
        lock.enter()
        yield lock
        lock.release()


def _private_folder(stack: contextlib.ExitStack, peers: frozenset[int]) -> str:
    """Create the folder of the socket, for its owner only; closing `stack` removes it."""
    folder = tempfile.mkdtemp(prefix="blockdiff-")
    if len(os.fsencode(folder)) > _MAX_PATH - len("/gate"):
        os.rmdir(folder)
        folder = tempfile.mkdtemp(prefix="blockdiff-", dir="/tmp")

    def remove() -> None:
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(folder, "gate"))
        with contextlib.suppress(OSError):
            os.rmdir(folder)

    stack.callback(remove)
    _give(folder, peers)
    return folder


def _give(path: str, peers: frozenset[int]) -> None:
    """Give a path to the user that sudo came from; root needs no permission."""
    if os.geteuid() == 0 and len(peers) == 1:
        os.chown(path, next(iter(peers)), -1)
