"""A command on this machine, through pipes.

Closing must end a read and a write that are blocked in other threads, and a descriptor
must not be closed while another thread uses it: its number may be reused. So every wait
is a poll that includes an eventfd, and `close` first writes to the eventfd, then takes
each direction's lock, then closes.
"""

import contextlib
import errno
import fcntl
import os
import select
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence

from blockdiff.errors import CommandFailed, ProgramMissing
from blockdiff.printable import Log
from blockdiff.transport.base import LOCAL
from blockdiff.transport.sharedmemory import Shared
from blockdiff.transport.stderr import Diagnostics, drain

PIPE_SIZE = 1024 * 1024  # bytes; the most for a user without privileges
GRACE_S = 10.0  # between SIGTERM and SIGKILL
STDERR_S = 2.0  # how long the rest of stderr is read after the process has ended


class LocalTransport:
    """A process in a session of its own: a terminal's ^C does not reach it."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        host: str = LOCAL,
        environment: Mapping[str, str] | None = None,
        log: Log | None = None,
        share: bool = False,
    ) -> None:
        """Start argv; `share`: offer it memory to share with us.

        Raises ProgramMissing or CommandFailed if it cannot be started.
        """
        self.host = host
        self.shared: Shared | None = None
        if share:
            with contextlib.suppress(OSError):  # without it, only slower
                self.shared = Shared()
        try:
            self._process = subprocess.Popen(
                argv, env=environment, start_new_session=True, bufsize=0,
                pass_fds=() if self.shared is None else (self.shared.fd,),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
        except FileNotFoundError as error:
            raise ProgramMissing(argv[0]) from error
        except OSError as error:
            raise CommandFailed(argv[0], error.strerror) from error
        finally:
            if self.shared is not None:
                self.shared.close()
        stdin, stdout, stderr = self._process.stdin, self._process.stdout, self._process.stderr
        assert stdin is not None
        assert stdout is not None
        assert stderr is not None
        self._stdin, self._stdout, self._stderr = stdin, stdout, stderr
        for pipe in (stdin, stdout):
            with contextlib.suppress(OSError):  # the user's pipes may be at their limit
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        os.set_blocking(stdin.fileno(), False)
        self._closing = os.eventfd(0)  # readable from the moment the transport is closed
        self._closed = False
        self._mutex, self._reading, self._writing = (threading.Lock() for _ in range(3))
        self._readable = self._poll(stdout.fileno(), select.POLLIN)
        self._writable = self._poll(stdin.fileno(), select.POLLOUT)
        self._abandoned = False  # stderr is not read any more
        self._diagnostics = Diagnostics(log)
        self._drain = drain(self._read_stderr, self._diagnostics, f"stderr of {host}")

    def read(self, size: int) -> bytes:
        with self._reading:
            self._wait_for(self._readable)
            return os.read(self._stdout.fileno(), size)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        with self._writing, memoryview(data) as whole, whole.cast("B") as view:
            done = 0
            while done < len(view):
                if self._stdin.closed and not self._closed:
                    raise BrokenPipeError(errno.EPIPE, "the input was already ended")
                self._wait_for(self._writable)
                with contextlib.suppress(BlockingIOError), view[done:] as rest:
                    done += os.write(self._stdin.fileno(), rest)

    def close_write(self) -> None:
        with self._writing:
            self._stdin.close()

    def wait(self, timeout_s: float) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = self._process.wait(timeout_s)
            # the last lines of stderr explain the status, so read them first; a grandchild
            # may keep the pipe open for ever
            self._drain.join(STDERR_S)
            return status
        return None

    def diagnostics(self) -> str:
        return self._diagnostics.text()

    def close(self) -> None:
        with self._mutex:  # until the end: a second caller may exit at once, and must find the command closed
            if self._closed:
                return
            self._closed = True
            self._diagnostics.mute()
            os.eventfd_write(self._closing, 1)
            with self._writing:
                self._stdin.close()  # the command also ends at the end of its input
            with self._reading:
                self._stdout.close()
            self._signal(signal.SIGTERM)
            self._signal(signal.SIGCONT)  # a stopped process does not act on SIGTERM
        threading.Thread(target=self._reap, name=f"end of {self.host}", daemon=True).start()

    def _reap(self) -> None:
        """Wait for the process to end, kill it after GRACE_S, and close its descriptors."""
        try:
            self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.wait()
        self._drain.join(STDERR_S)
        self._abandoned = True
        self._drain.join()
        self._stderr.close()
        os.close(self._closing)

    def _signal(self, number: int) -> None:
        # until the leader was waited for, its group's number cannot be reused
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def _poll(self, fd: int, events: int) -> select.poll:
        poll = select.poll()
        poll.register(fd, events)
        poll.register(self._closing, select.POLLIN)
        return poll

    def _wait_for(self, poll: select.poll) -> None:
        if not self._closed:
            poll.poll()
        if self._closed:
            raise OSError(errno.ECANCELED, "the transport was closed")

    def _read_stderr(self, size: int) -> bytes:
        poll = select.poll()
        poll.register(self._stderr, select.POLLIN)
        while not poll.poll(200):
            if self._abandoned:
                return b""
        return os.read(self._stderr.fileno(), size)
