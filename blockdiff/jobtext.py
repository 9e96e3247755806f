"""The text of a job as cronlog writes it: what starts, its output, how it ended; into a log, and for printing."""

import contextlib
import os
import re
import socket
import tempfile
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import IO

from blockdiff.errors import StoreFailed

RULE = b"-" * 78 + b"\n"
_IN_MEMORY = 1024 * 1024  # bytes of a run's text kept in memory before a temporary file is used
_LINES = re.compile(rb"[^\n]*\n|[^\n]+")


class JobText:
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

    def __enter__(self) -> "JobText":
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

    def starts(self, command: str, host: str | None = None) -> None:
        """Write which command starts, on which machine: this one."""
        self.line(f"{host or socket.gethostname()} starting: {command}")

    def ended(self, status: int) -> None:
        """Write how the command ended, by its returncode."""
        if status < 0:
            self.line(f"command died with signal:{-status}")
        else:
            self.line(f"command exited with code:{status}")

    def unstarted(self, error: OSError, code: int) -> None:
        """Write why the command was not started, and the exit code for that."""
        self.line(f"failed to execute command: {error.strerror}")
        self.ended(code)

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
