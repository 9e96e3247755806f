"""A ProxyCommand: a program whose stdin and stdout are the connection to a host."""

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Mapping

from blockdiff.errors import CommandFailed
from blockdiff.printable import Log
from blockdiff.transport.stderr import Diagnostics, drain

END_S = 2.0  # how long it may take to end after a signal


class ProxyCommand:
    """The running program; `socket` is our end of it."""

    def __init__(self, command: str, environment: Mapping[str, str], log: Log | None = None) -> None:
        """Start it as ssh does, by the user's shell. Raises CommandFailed if that fails."""
        shell = environment.get("SHELL") or "/bin/sh"
        self.socket, theirs = socket.socketpair()
        self._diagnostics = Diagnostics(log)
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [shell, "-c", f"exec {command}"], env=dict(environment), start_new_session=True, bufsize=0,
                    stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=subprocess.PIPE,
                )  # fmt: skip
            except OSError as error:
                self.socket.close()
                raise CommandFailed(f"ProxyCommand {command}", error.strerror) from error
        stderr = self._process.stderr
        assert stderr is not None
        self._stderr = stderr
        self._drain = drain(stderr.read, self._diagnostics, "stderr of a ProxyCommand")

    def last_lines(self) -> str:
        """Return the last lines of its stderr; it is given some time to end before."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_S)
            self._drain.join(END_S)
        return self._diagnostics.text()

    def close(self) -> None:
        """End it, with SIGKILL if SIGTERM does not."""
        self.socket.close()
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                if self._process.poll() is None:
                    os.killpg(self._process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(END_S)
                break
        self._drain.join(END_S)
        if not self._drain.is_alive():  # a process that it started may still have the pipe open
            self._stderr.close()
