"""A cron job with its output in a log, and in cron's mail only if it failed.

The log is only appended to, as the output arrives, so that it can be followed and several
jobs can share it. A copy of this run's text is kept for printing: lines that other jobs write
to the same log meanwhile do not belong into this job's mail. If the log cannot be written any
more, the job continues, with a warning.

A command is executed as Perl's exec does, which the original called: see `_execute`.
"""

import contextlib
import errno
import os
import re
import select
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import IO

from blockdiff.childprocess import Signals, exit_code, exit_code_unstarted
from blockdiff.errors import StoreFailed

RULE = b"-" * 78 + b"\n"
_PIECE = 65536  # bytes read from the command at once
_IN_MEMORY = 1024 * 1024  # bytes of a run's text kept in memory before a temporary file is used
_POLL_S = 0.5
_DRAIN_S = 1.0  # how long output is still read from children of a stopped command
_LINES = re.compile(rb"[^\n]*\n|[^\n]+")
_SHELL = "/bin/sh"
# a command in one word that needs a shell, as Perl decides it
_FOR_A_SHELL = re.compile(r"[$&*(){}\[\]'\";\\|?<>~`\n]|\A\s*(?:\w+=|(?:\.|exec)\s)")


@dataclass
class JobResult:
    """A command's exit code, and this run's part of the log (without the line of dashes)."""

    exit_code: int
    text: IO[bytes]  # read from its beginning; the caller closes it
    warnings: list[str]


class _Log:
    """The destination of a run's text: the log, as it arrives, and a copy for printing."""

    def __init__(self, path: str | None, stamp: Callable[[], str] | None) -> None:
        self.warnings: list[str] = []
        self._path = path
        self._stamp = stamp
        self._at_line_start = True
        self._fd: int | None = None
        if path is not None:
            try:
                self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            except OSError as error:
                raise StoreFailed(path, error.strerror) from error
            self._append(RULE)
        self.text: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115

    def __enter__(self) -> "_Log":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fd is not None:
            os.close(self._fd)
        if error is not None:
            self.text.close()

    def write(self, data: bytes) -> None:
        """Write output as it arrives; a line has the time at which its first byte arrived."""
        pieces = []
        for piece in _LINES.findall(data):
            if self._at_line_start and self._stamp is not None:
                pieces.append(f"[{self._stamp()}] ".encode())
            pieces.append(piece)
            self._at_line_start = piece.endswith(b"\n")
        stamped = b"".join(pieces)
        self._append(stamped)
        with self._warned("the copy of the output"):
            self.text.write(stamped)

    def line(self, text: str) -> None:
        """Write a line of our own, on a new line."""
        if not self._at_line_start:
            self.write(b"\n")
        self.write(os.fsencode(text) + b"\n")

    def _append(self, data: bytes) -> None:
        if self._fd is None:
            return
        with self._warned(str(self._path)):
            while data:
                data = data[os.write(self._fd, data) :]

    @contextlib.contextmanager
    def _warned(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            warning = f"cannot write {name}: {error.strerror}"
            if warning not in self.warnings:
                self.warnings.append(warning)


def run(
    command: Sequence[str],
    *,
    logfile: str | None = None,
    timestamp: bool = False,
    host: str | None = None,
    now: Callable[[], str] = time.asctime,
) -> JobResult:
    """Run a command with its output going to the log, and return its result.

    HUP, INT and TERM are passed on to the command. Raises StoreFailed, before the command
    is run, if the log cannot be opened.
    """
    with _Log(logfile, now if timestamp else None) as log, Signals() as signals:
        log.line(f"{host or socket.gethostname()} starting: {' '.join(command)}")
        code = _run(command, log, signals)
        log.text.seek(0)
        return JobResult(code, log.text, log.warnings)


def _run(command: Sequence[str], log: _Log, signals: Signals) -> int:
    """Run the command to its end and return its exit code, as the shell would."""

    try:
        child = signals.start(lambda: _execute(command))
    except OSError as error:
        code = exit_code_unstarted(error)
        log.line(f"failed to execute command: {error.strerror}")
        log.line(f"command exited with code:{code}")
        return code
    with child:
        _copy(child, log, signals)
        status = child.wait()
    if status < 0:
        log.line(f"command died with signal:{-status}")
    else:
        log.line(f"command exited with code:{status}")
    return exit_code(status)


def _execute(command: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a command: several words as they are; a single word by a shell if it needs one, else split at blanks.

    An executable file without #! is run by a shell, as execvp(3) does it. Raises OSError.
    """

    def spawn(words: Sequence[str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0)

    words = command
    if len(command) == 1:
        words = [_SHELL, "-c", command[0]] if _FOR_A_SHELL.search(command[0]) else command[0].split()
    try:
        return spawn(words)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        return spawn([_SHELL, shutil.which(words[0]) or words[0], *words[1:]])


def _copy(child: subprocess.Popen[bytes], log: _Log, signals: Signals) -> None:
    """Copy the command's output until no process has its end of the pipe open.

    When a command was stopped by a signal and has ended, a child of its own may still have the
    pipe open: that one is waited for _DRAIN_S at most.
    """
    assert child.stdout is not None
    fd = child.stdout.fileno()
    deadline = None
    while deadline is None or time.monotonic() < deadline:
        if deadline is None and signals.received and child.poll() is not None:
            deadline = time.monotonic() + _DRAIN_S
        if select.select([fd], [], [], _POLL_S)[0]:
            data = os.read(fd, _PIECE)
            if not data:
                return
            log.write(data)
