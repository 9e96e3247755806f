"""A ProxyCommand: a program whose stdin and stdout are the way to a host."""

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Mapping

from blockdiff.errors import CommandFailed
from blockdiff.transport.settings import Log
from blockdiff.transport.stderr import Diagnostics, drain

DYING_S = 2.0  # seconds to end after being asked


class ProxyCommand:
    """The running program; `socket` is our end of it."""

    def __init__(self, command: str, environment: Mapping[str, str], log: Log | None = None) -> None:
        """Start it as ssh does, by the user's shell. Raises CommandFailed if that cannot be."""
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

    def last_words(self) -> str:
        """Return what it wrote on stderr, all of it if it has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(DYING_S)
            self._drain.join(DYING_S)
        return self._diagnostics.text()

    def close(self) -> None:
        """End it, by force if it does not go by itself."""
        self.socket.close()
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                if self._process.poll() is None:
                    os.killpg(self._process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(DYING_S)
                break
        self._drain.join(DYING_S)
        if not self._drain.is_alive():  # somebody it started may still hold the pipe
            self._stderr.close()
