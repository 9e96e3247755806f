"""What every transport promises: a command's stdin and stdout as a pair of byte streams.

A transport starts one command on one host.  Reading and writing happen in different
threads; `close` may come from any thread and ends both.
"""

from typing import Protocol

LOCAL = "localhost"  # the host's name where there is none


class Shared(Protocol):
    """Memory that a command can share with us."""

    offer: dict[str, int]  # what tells the command how to find it
    view: memoryview  # what it put there


class Transport(Protocol):
    """A running command on a host."""

    host: str  # as people name it in messages; LOCAL for this one

    @property
    def shared(self) -> Shared | None:
        """The memory that it can share with us; None where it runs on another machine."""

    def read(self, size: int) -> bytes:
        """Return 1 to size bytes of the command's stdout as soon as some are there, b"" at its end.

        Raises OSError if the connection broke.
        """

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Hand all of data to the command's stdin; blocks while the other side does not read.

        Raises OSError if the command or the connection is gone.
        """

    def close_write(self) -> None:
        """Let the command see the end of its stdin."""

    def wait(self, timeout_s: float) -> int | None:
        """Return the command's exit status (negative: the signal that ended it), None if it is not
        known after timeout_s seconds or because the connection broke."""

    def diagnostics(self) -> str:
        """Return the last lines that came on stderr (at most 8 KiB), made safe for a terminal."""

    def close(self) -> None:
        """End the command and the connection, at once and from any thread; may be called twice."""
