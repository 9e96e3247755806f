"""Buffers between paramiko's thread and ours.

Both replace a buffer of paramiko's, which copies each byte five times, has no limit, and
makes two system calls for each packet.
"""

import threading
from collections import deque
from typing import Any

READ_AHEAD = 256 * 1024  # bytes


class Overrun(Exception):
    """The other side sent more than it is allowed to."""


class Arrivals:
    """Bytes that have arrived on a channel and were not yet read, up to a limit."""

    def __init__(self, limit: int) -> None:
        """Hold at most `limit` bytes."""
        self._limit = limit
        self._cv = threading.Condition()
        self._closed = False
        self._pieces: deque[memoryview] = deque()
        self._size = 0

    def feed(self, data: bytes) -> None:
        """Add bytes that have arrived; raises Overrun if that exceeds the limit."""
        with self._cv:
            self._size += len(data)
            if self._size > self._limit:
                raise Overrun("it sent more than it is allowed to")
            self._pieces.append(memoryview(data))
            self._cv.notify_all()

    def read(self, nbytes: int, timeout: float | None = None) -> bytes:
        """Return up to nbytes as soon as there are any, b"" at the end."""
        with self._cv:
            while not self._pieces and not self._closed:
                self._cv.wait(timeout)
            taken = []
            while self._pieces and nbytes:
                piece = self._pieces.popleft()
                if len(piece) > nbytes:
                    self._pieces.appendleft(piece[nbytes:])
                    piece = piece[:nbytes]
                nbytes -= len(piece)
                self._size -= len(piece)
                taken.append(piece)
            return b"".join(taken)

    def close(self) -> None:
        """Let read return b"" once all has been read."""
        with self._cv:
            self._closed = True
            self._cv.notify_all()

    def read_ready(self) -> bool:
        return self._size > 0

    def __len__(self) -> int:
        return self._size


class ReadAhead:
    """A socket, or an object that paramiko uses as one, read in large pieces."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._ahead = memoryview(b"")

    def recv(self, size: int) -> bytes:
        if not self._ahead:
            self._ahead = memoryview(self._inner.recv(READ_AHEAD))
        data, self._ahead = self._ahead[:size], self._ahead[size:]
        return bytes(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
