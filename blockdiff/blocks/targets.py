"""Where a restore writes: what it asks of a target, and a target on this machine."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from blockdiff.blocks import blockset, restorer
from blockdiff.sets.version import VersionFiles
from blockdiff.target import precheck, writer
from blockdiff.target.state import TargetState


class Sink(restorer.Sink, Protocol):
    """A target that is open."""

    @property
    def kind(self) -> str:
        """What it was before: one of state's kinds."""

    @property
    def size_before(self) -> int:
        """Bytes that it had before."""

    @property
    def path(self) -> str:
        """Its name."""

    @property
    def written_path(self) -> str:
        """The name under which it is written."""

    @property
    def durable(self) -> bool:
        """Whether all of it has been written and is on the disk."""

    def left(self) -> str:
        """Return what a failed run leaves and the next step, for a person; "" if nothing."""

    def finish(self, size: int) -> None:
        """Give it its size and its name, and put all on the disk."""


class Remote(Sink, Protocol):
    """A target that is written by an agent: it is asked first which blocks it has."""

    @property
    def sent(self) -> int:
        """Bytes of blocks that were sent."""

    @property
    def placed(self) -> int:
        """Bytes of them that are on its disk, as far as is known."""

    def told(self) -> Iterator[tuple[int, bytes, bytes]]:
        """Yield the first of some blocks, the digests that they have and those that they must have, in order."""


class Goal(Protocol):
    """A target before it is open."""

    path: str

    def look(self, files: VersionFiles, size: int, *, dry_run: bool) -> TargetState:
        """Return its state, for a version of `size` bytes; changes nothing."""

    def room(self) -> int | None:
        """Return the bytes that are free there for a new file; None if that is not known."""

    def rehearse(self) -> None:
        """Raise where `open` would, and change nothing."""

    def open(self, size: int | None) -> AbstractContextManager[writer.Target | Remote]:
        """Open it for writing; `size`: bytes that a file will have, where that is known."""


class LocalTarget:
    """A file or block device of this machine."""

    def __init__(self, path: str, own: tuple[str, str] | None) -> None:
        """`own`: the set that is restored: its folder and its name there; None where it is in no folder."""
        self.path, self._own = path, own
        self._seen: TargetState | None = None

    def look(self, files: VersionFiles, size: int, *, dry_run: bool) -> TargetState:
        """Return its state."""
        self._seen = precheck.look(self.path, self._own)
        return self._seen

    def room(self) -> int | None:
        """Return the bytes that are free there for a file; None if that is not known."""
        assert self._seen is not None
        return writer.room(self._seen)

    def rehearse(self) -> None:
        """Raise TargetRefused where `open` would, and change nothing."""
        assert self._seen is not None
        writer.rehearse(self._seen)

    def open(self, size: int | None) -> writer.Target:
        """Open it for writing."""
        assert self._seen is not None
        return writer.Target(self._seen, size)


def differing(told: Iterator[tuple[int, bytes, bytes]], count: int) -> blockset.Blocks:
    """Return the blocks whose digests are not what they must be.

    `told`: the first of some blocks, the digests that they have and those that they must have.
    """
    found = blockset.Blocks(count)
    for first, have, must in told:
        for run in blockset.changed(have, must, first):
            found.add(*run)
    return found
