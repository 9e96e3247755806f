"""Run several commands side by side, at most one for a host, each with its output as cronlog writes it.

A command is a process in a session of its own: a signal reaches it only through us, once, and we wait
until it has ended.  If we are killed without a chance to do that, the kernel sends TERM to it, see
`LAUNCH`: nothing goes on that nobody sees, and that would have locked what the next run needs.

Its text is handed over when it has ended, so that no two are mixed.
"""

import contextlib
import os
import selectors
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from blockdiff.childprocess import Signals, exit_code, exit_code_unstarted
from blockdiff.jobtext import JobText

# for `python -c`, followed by our process id, the folder of our package, a program of ours and its words.  The
# kernel is asked to send TERM when its parent dies (PR_SET_PDEATHSIG); another parent already means that it has.
LAUNCH = """
import sys
sys.path[0] = sys.argv[2]
import ctypes, os, signal
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]):
    sys.exit(143)
del sys.argv[:3]
from blockdiff.commands.programs import main
main()
"""
_PIECE = 65536  # bytes read from a command at once
_POLL_S = 0.1  # an ended process is seen so late at most; pidfds need Linux 5.3
_DRAIN_S = 1.0  # how long output is still read from children of an ended command


@dataclass(frozen=True)
class Task:
    """A command to run."""

    words: Sequence[str]  # the program and its arguments
    shown: str  # in its text
    hosts: frozenset[str]  # that it works on; no other command works on one of them meanwhile
    result: bool = False  # its standard output is a result, no part of its text


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    exit_code: int  # as a shell's
    signal: int | None  # that ended it
    text: bytes  # as cronlog writes it, without the line of dashes
    result: bytes
    seconds: float


@dataclass(frozen=True)
class Result:
    """How all commands ended, in their order; None was not started, since a signal came."""

    ended: list[Ended | None]
    signal: int | None


class _Child:
    """One command that runs."""

    def __init__(self, task: Task, number: int, signals: Signals, stamp: Callable[[], str] | None) -> None:
        self.number, self.hosts = number, task.hosts
        self.fd: int | None = None  # where its text is read, until its end
        self._began = time.monotonic()
        self._dead_since: float | None = None
        self._process: subprocess.Popen[bytes] | None = None
        with contextlib.ExitStack() as cleanup:
            self._text = cleanup.enter_context(JobText(None, stamp))
            self._result = os.memfd_create("result")
            cleanup.callback(os.close, self._result)
            self._text.starts(task.shown)
            try:
                self._process = signals.start(lambda: self._spawn(task))
            except OSError as error:
                self._status = exit_code_unstarted(error)
                self._text.unstarted(error, self._status)
            else:
                assert self._process.stdout is not None
                self.fd = self._process.stdout.fileno()
            self._cleanup = cleanup.pop_all()

    def _spawn(self, task: Task) -> subprocess.Popen[bytes]:
        reading, writing = os.pipe()
        try:
            process = subprocess.Popen(
                task.words,
                stdin=subprocess.DEVNULL,
                stdout=self._result if task.result else writing,
                stderr=writing,
                start_new_session=True,
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        process.stdout = open(reading, "rb", buffering=0)  # noqa: SIM115 - `ended` closes it
        return process

    def read(self) -> bool:
        """Read some of its text; returns whether there may be more."""
        assert self.fd is not None
        data = os.read(self.fd, _PIECE)
        self._text.write(data)
        return bool(data)

    def may_end(self) -> bool:
        """Return whether it has ended, and nothing is to be read any more, or has not been for too long."""
        if self._process is None:
            return True
        if self._process.poll() is None:
            return False
        if self._dead_since is None:
            self._dead_since = time.monotonic()
        return self.fd is None or time.monotonic() > self._dead_since + _DRAIN_S

    def end(self) -> Ended:
        """Return how it ended."""
        with self._cleanup, self._text.text as text:
            if self._process is not None:
                assert self._process.stdout is not None
                self._process.stdout.close()
                self._status = self._process.returncode
                self._text.ended(self._status)
            status = self._status
            text.seek(0)
            return Ended(
                exit_code=exit_code(status),
                signal=-status if status < 0 else None,
                text=text.read(),
                result=os.pread(self._result, os.fstat(self._result).st_size, 0),
                seconds=time.monotonic() - self._began,
            )


def run(
    tasks: Sequence[Task],
    *,
    most: int,
    ended: Callable[[int, Ended], object],
    stamp: Callable[[], str] | None = None,
) -> Result:
    """Run all commands, at most so many at once, and call `ended` with a command's place and how it ended.

    They start in their order, but one whose host is busy lets others go first.  HUP, INT and TERM
    go to all that run, none is started any more, and those that run are waited for.
    """
    found: list[Ended | None] = [None] * len(tasks)
    waiting = list(range(len(tasks)))
    running: list[_Child] = []
    with Signals() as signals, selectors.DefaultSelector() as selector:
        while running or (waiting and not signals.received):
            for number in _startable(tasks, waiting, running, most):
                if signals.received:
                    break
                waiting.remove(number)
                child = _Child(tasks[number], number, signals, stamp)
                running.append(child)
                if child.fd is not None:
                    selector.register(child.fd, selectors.EVENT_READ, child)
            for key, _ in selector.select(_POLL_S):
                if not key.data.read():
                    selector.unregister(key.fd)
                    key.data.fd = None
            for child in [child for child in running if child.may_end()]:
                running.remove(child)
                if child.fd is not None:
                    selector.unregister(child.fd)
                how = found[child.number] = child.end()
                ended(child.number, how)
        return Result(found, signals.received[0] if signals.received else None)


def _startable(tasks: Sequence[Task], waiting: Sequence[int], running: list[_Child], most: int) -> Iterator[int]:
    """Yield the places of commands that can start now; the caller starts each before it asks for the next."""
    for number in tuple(waiting):
        if len(running) >= most:
            return
        if not any(tasks[number].hosts & child.hosts for child in running):
            yield number
