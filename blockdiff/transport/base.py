"""The interface of every transport: a command's stdin and stdout as two byte streams.

A transport starts one command on one host.  Reading and writing happen in different
threads; any thread may call `close`, which ends both.
"""

from typing import Protocol

LOCAL = "localhost"  # the host's name for a command on this machine


class Shared(Protocol):
    """Memory that a command can share with us."""

    offer: dict[str, int]  # how the command can find it
    view: memoryview  # its content, written by the command


class Transport(Protocol):
    """A running command on a host."""

    host: str  # its name in messages; LOCAL for this machine

    @property
    def shared(self) -> Shared | None:
        """The memory that it can share with us; None if it runs on another machine."""

    def read(self, size: int) -> bytes:
        """Return 1 to size bytes of the command's stdout as soon as there are any, b"" at its end.

        Raises OSError if the connection broke.
        """

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write all of data to the command's stdin; blocks while the other side does not read.

        Raises OSError if the command or the connection has ended.
        """

    def close_write(self) -> None:
        """End the command's stdin."""

    def wait(self, timeout_s: float) -> int | None:
        """Return the command's exit status (negative: the signal that ended it), None if it is not
        known after timeout_s seconds or because the connection broke."""

    def diagnostics(self) -> str:
        """Return the last lines of stderr (at most 8 KiB), safe for a terminal."""

    def close(self) -> None:
        """End the command and the connection, at once and from any thread; may be called twice."""
