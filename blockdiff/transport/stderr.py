"""The stderr of a command, line by line, bounded and safe for a terminal."""

import contextlib
import threading
from collections import deque
from collections.abc import Callable

from blockdiff.printable import Log, visible

MAX_TAIL = 8 * 1024  # bytes of the newest lines that are kept
MAX_LINE = 1024  # bytes; a longer one is cut into several
MAX_LOGGED = 1000  # lines that are logged
MAX_LOGGED_SIZE = 128 * 1024  # characters that are logged


class HostLog:
    """Log the stderr of a command on another host: the host's name before each line, at most MAX_LOGGED lines."""

    def __init__(self, host: str, log: Log) -> None:
        self._host, self._log = host, log
        self._lines = MAX_LOGGED
        self._size = MAX_LOGGED_SIZE

    def __call__(self, line: str) -> None:
        """Log a line."""
        if self._lines < 0:
            return
        self._lines -= 1
        self._size -= len(line)
        if self._lines < 0 or self._size < 0:
            self._lines = -1
            line = "too much output; the rest is not logged"
        self._log(f"{self._host}: {line}")


class Diagnostics:
    """The newest lines of a stderr; one thread feeds it, any thread may read it."""

    def __init__(self, log: Log | None = None) -> None:
        self._log = log
        self._lines: deque[str] = deque()
        self._size = 0  # bytes in _lines, their line ends included
        self._rest = b""
        self._mutex = threading.Lock()

    def feed(self, data: bytes) -> None:
        """Take the next bytes, in pieces of any size."""
        *lines, rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        while len(rest) > MAX_LINE:
            lines.append(rest[:MAX_LINE])
            rest = rest[MAX_LINE:]
        self._rest = rest
        for line in lines:
            for start in range(0, len(line), MAX_LINE):
                self._take(line[start : start + MAX_LINE])

    def end(self) -> None:
        """Take the rest as a last line."""
        rest, self._rest = self._rest, b""
        if rest:
            self._take(rest)

    def mute(self) -> None:
        """Stop logging: messages of a command that we are ending are not logged."""
        self._log = None

    def text(self) -> str:
        """Return the newest lines, at most 8 KiB of them."""
        with self._mutex:
            return "\n".join(self._lines)

    def _take(self, line: bytes) -> None:
        # a byte that is not UTF-8 becomes "?": the limit also holds after decoding
        text = visible(line.decode("utf-8", "replace").replace("\ufffd", "?")).rstrip()
        if not text:
            return
        with self._mutex:
            self._lines.append(text)
            self._size += len(text.encode()) + 1
            while self._size > MAX_TAIL:
                self._size -= len(self._lines.popleft().encode()) + 1
        log = self._log
        if log is not None:
            # if the log cannot be written, stderr must still be read: else the command would hang
            with contextlib.suppress(OSError):
                log(text)


def drain(read: Callable[[int], bytes], diagnostics: Diagnostics, name: str) -> threading.Thread:
    """Start and return a thread that feeds diagnostics from `read` until it returns b""."""

    def run() -> None:
        with contextlib.suppress(OSError):
            while data := read(65536):
                diagnostics.feed(data)
        diagnostics.end()

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread
