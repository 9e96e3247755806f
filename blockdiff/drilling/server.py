"""A database server that a drill starts on a clone; all of this runs inside the drill's name spaces."""

import abc
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from typing import Any

STOP_S = 120.0
_POLL_S = 0.05
_LOG = 16 * 1024  # bytes of a log's end that are looked at
_LINES = 5  # of them that are shown


class Problem(Exception):
    """Why a step failed."""


class Server(abc.ABC):
    """One server process; its kinds say how it is started, asked and stopped."""

    stop_signal = signal.SIGTERM

    def __init__(
        self,
        folder: str,
        run: str,
        scratch: str,
        settings: Sequence[str] = (),
        database: str = "",
        owner: tuple[int, int] | None = None,
    ) -> None:
        """`folder`: its data; `run`: for socket and log, in memory; `scratch`: for what is larger, on the clone.

        `settings`: NAME=VALUE, over ours; `database`: of the statements; `owner`: whom it runs as, None: as we do.
        """
        self.folder, self.run, self.scratch = folder, run, scratch
        self.settings, self.database, self.owner = settings, database, owner
        self.log = os.path.join(run, "log")
        self._process: subprocess.Popen[bytes] | None = None

    @abc.abstractmethod
    def words(self) -> list[str]:
        """Return the command that starts it.  Raises Problem if it cannot work with this data."""

    @abc.abstractmethod
    def ready(self) -> bool:
        """Return whether it answers."""

    @abc.abstractmethod
    def started(self) -> str:
        """Return what it is and what it had to recover, for people."""

    @abc.abstractmethod
    def query(self, sql: str) -> str:
        """Return the rows of a statement, columns separated by tabs.  Raises Problem."""

    @abc.abstractmethod
    def check(self) -> str:
        """Check all tables; return how many.  Raises Problem if one is damaged."""

    def start(self, *more: str) -> None:
        """Start it and wait until it answers, as long as that takes.  Raises Problem."""
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                [*self.words(), *more], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.run,
                **self._as_owner(),
            )  # fmt: skip
        while self._process.poll() is None:
            if self.ready():
                return
            time.sleep(_POLL_S)
        raise Problem(f"it ended with exit code {self._process.returncode}: {self.last_lines()}")

    def _as_owner(self) -> dict[str, Any]:
        return {} if self.owner is None else {"user": self.owner[0], "group": self.owner[1], "extra_groups": ()}

    def stop(self) -> str:
        """Stop it as for a shutdown; returns how it ended.  Raises Problem if it did not end well."""
        assert self._process is not None
        self._process.send_signal(self.stop_signal)
        try:
            code = self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            raise Problem(f"it did not end within {STOP_S:g} s") from None
        if code:
            raise Problem(f"it ended with exit code {code}: {self.last_lines()}")
        return "exit 0"

    def log_text(self) -> str:
        """Return the end of its log."""
        with contextlib.suppress(OSError), open(self.log, "rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - _LOG))
            return log.read().decode("utf-8", "replace")
        return ""

    def last_lines(self) -> str:
        """Return the last errors of its log, else its last lines, in one line."""
        lines = [line.strip() for line in self.log_text().splitlines() if line.strip()]
        errors = [line for line in lines if any(word in line for word in ("ERROR", "FATAL", "PANIC"))]
        return "; ".join((errors or lines)[-_LINES:]) or "its log is empty"
