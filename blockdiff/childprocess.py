"""A program that is run in the foreground: its exit code, its signals.

A wrapper such as mysqllock or cronlog behaves as the program that it runs: it passes
signals on, and ends with the program's exit code. Exit codes are those of a shell:
126 not executable, 127 not found, 128 + N after signal N.
"""

import ctypes
import os
import signal
import subprocess
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from blockdiff.errors import Interrupted

_PR_SET_PDEATHSIG = 1
PASSED_ON = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


def exit_code(status: int) -> int:
    """Return a process's returncode as the shell would report it."""
    return 128 - status if status < 0 else status


def exit_code_unstarted(error: OSError) -> int:
    """Return the shell's exit code for a program that could not be started."""
    return 127 if isinstance(error, FileNotFoundError) else 126


def end_with_us(number: int = signal.SIGTERM) -> Callable[[], None]:
    """Return what a new process calls so that the kernel sends it a signal when we are gone, however we end."""
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # we were gone before
            os.kill(os.getpid(), number)

    return ask


class Signals:
    """What HUP, INT and TERM do while a wrapper is active, as a context manager.

    Before the first `start` they raise Interrupted wherever the wrapper is, so that its `finally`
    blocks run; from then on they go to all children, and nothing is raised any more.
    Use it in the main thread: only there can handlers be set.
    """

    def __init__(self) -> None:
        self.received: list[int] = []  # since start was called
        self._children: list[subprocess.Popen[bytes]] = []
        self._starting = False
        self._previous: list[tuple[int, Any]] = []

    def __enter__(self) -> "Signals":
        for number in PASSED_ON:
            # a signal that was ignored when we were started (nohup) stays ignored
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._previous.append((number, signal.signal(number, self._arrive)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous:
            signal.signal(number, handler)

    def start(self, spawn: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        """Start a child and return it; a signal that has arrived is for it, too."""
        self._starting = True
        try:
            child = spawn()
        except BaseException:
            self._starting = False
            raise
        self._children.append(child)
        for number in tuple(self.received):
            child.send_signal(number)
        return child

    def _arrive(self, number: int, frame: FrameType | None) -> None:
        if self._children or self._starting:
            self.received.append(number)
            for child in self._children:
                child.send_signal(number)  # does nothing once the child was waited for
        else:
            raise Interrupted(signal.Signals(number).name, 128 + number)
