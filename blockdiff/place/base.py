"""What every place can do, whatever it is.

A file of a place is named by its path, as people write it: /backup/db00.1.gz, or s3://offsite/db00.1.gz.
`Place.path` makes it; nothing but its own place takes it apart.
"""

import hashlib
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from blockdiff.formats.manifest import StoredFile

if TYPE_CHECKING:
    from blockdiff.sealing.keys import Identity, Recipient

PIECE = 1024 * 1024  # bytes read at a time


class Look(NamedTuple):
    """How a file looks from outside: while this stays the same, the file is the same one, and unchanged."""

    size: int  # bytes as they are stored
    mtime_ns: int  # since 1970
    mark: tuple[int, int] | str  # device and inode, or the store's mark for these bytes

    @property
    def inode(self) -> int:
        """The inode's number; where a place has none, a number that is another one for other bytes."""
        if isinstance(self.mark, tuple):
            return self.mark[1]
        return int.from_bytes(hashlib.sha256(self.mark.encode()).digest()[:7])


@dataclass(frozen=True)
class Access:
    """How a place is used; most of it is for object stores."""

    as_of: int | None = None  # seconds since 1970: files as they were then; None: as they are
    locks: str = ""  # folder of this machine for the locks of sets in stores that have no lease; empty: all take one
    alone: bool = False  # only one machine writes there, so that any store will do: no lease is taken
    break_lease: bool = False  # write a set although another run may still do so
    lock_until: int | None = None  # seconds since 1970: until when nobody can delete what is written
    storage_class: str | None = None  # of diff files that are written
    unopened: bool = False  # files are sealed, and no key is there: what shows of them is enough
    identities: "tuple[Identity, ...]" = ()  # private keys that open sealed files; without, no file is sealed
    recipients: "tuple[Recipient, ...]" = ()  # public keys, for which all files that are written are sealed


PLAIN = Access()


class Blob(Protocol):
    """A file that is open for reading: it stays the same file, whatever happens to its name.  For any thread."""

    @property
    def size(self) -> int:
        """Bytes that it has."""

    def look(self) -> Look:
        """Return how it looks now.  Raises OSError."""

    def pread(self, length: int, offset: int) -> bytes:
        """Return these bytes, fewer only at its end.  Raises OSError, or the place's own errors."""

    def in_order(self) -> None:
        """Expect to be read from begin to end; never raises."""

    def expect(self, parts: Iterable[tuple[int, int]]) -> None:
        """Expect that these parts, (offset, length), are read in this order and nothing else; never raises."""

    def again(self) -> "Blob":
        """Return the same file, opened once more.  Raises OSError."""

    def fileno(self) -> int:
        """Return its descriptor, of which nothing here moves the position; -1 where it takes none."""

    def close(self) -> None:
        """Close it."""


class Busy(Exception):
    """An active run has made this file, or checks it in the same way."""


Opener = Callable[[str], Blob]  # from a path; raises OSError: FileNotFoundError if there is no such file


class Part(Protocol):
    """A file that is being written; nobody reads it before it is published.

    It is counted and hashed.  Raises NoRoom or StoreFailed from every method that writes.
    """

    size: int  # bytes so far

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append data."""

    def close(self) -> None:
        """End it: all of it is then safe in the place, but has no name there."""

    def sha256(self) -> str:
        """Return the SHA-256 of what was written, in hex."""

    def stored(self) -> StoredFile:
        """Return its entry for the manifest."""

    def publish(self) -> None:
        """Give it its name, which must be free; call `close` before.

        Raises ForeignFiles, or SetLocked in a store, if the name is taken.
        """

    def check(self) -> None:
        """Make sure that the place has what was written, after `publish`.  Raises StoreFailed."""

    def replace(self) -> None:
        """Give it its name, from the file that has it, if there is one; call `close` before."""

    def has_its_name(self) -> bool:
        """Return whether the file of this name is this one, unchanged since it was closed."""

    def withdraw(self) -> bool:
        """Remove the name if this file has it; return whether that was done or not needed."""

    def release(self) -> None:
        """Stop keeping other runs from it; never raises."""

    def discard(self) -> None:
        """Remove it unless it was published, and release it; never raises."""


class Place(Protocol):
    """A folder, or what is like one.  Raises OSError, or the place's own errors."""

    at: str  # as people write it
    checks: bool  # a file that is there came whole: it was compared with its MD5 then, and its size shows no less
    blind: bool  # its files are sealed, and there is no key to open one: only names and NAME.ver tell of them
    claims: bool  # that a name is given only once is all that keeps runs apart, so what is there is never taken away
    most_beside: int | None  # bytes of a file that is no diff file; None: any number
    sealed: bool  # its files are, so that those which only speed things up are not there

    def exists(self) -> bool:
        """Return whether there is such a place, as far as that shows without asking another machine."""

    def path(self, name: str) -> str:
        """Return the path of the file of this name."""

    def names(self, begin: str = "") -> list[str]:
        """Return the names of its files, at least of those that begin so."""

    def look(self, path: str) -> Look:
        """Return how a file looks; it may have looked so when `names` was asked last."""

    def size(self, path: str) -> int:
        """Return the bytes that a file has for who reads it; as `look`."""

    def first(self, path: str, most: int) -> bytes:
        """Return the first bytes of a file as it is now, `most` at most.  Raises as `open`."""

    def hash(self, path: str) -> StoredFile:
        """Return the size and SHA-256 of a file.  Raises as `open`."""

    def soon(self, paths: Iterable[str], most: int, first: int = 0) -> None:
        """Expect files of up to `most` bytes to be read, and `first` bytes of larger ones; never raises."""

    def looks(self, paths: Iterable[str]) -> "dict[str, Look | None]":
        """Return how files look now, None for those that cannot be seen."""

    def open(self, path: str) -> Blob:
        """Open a file for reading."""

    def as_sent(self, path: str, progress: Callable[[int], object]) -> bool | None:
        """Read a file as it is stored, and return whether those are the bytes that were sent to this place.

        None: the place does not tell, and nothing more is read than shows whether it can be whole.  `progress` is
        called with bytes that were read.  Raises as `open`, and DamagedFile or NotOurFormat if it cannot be whole.
        """

    def part(self, name: str, run: str) -> Part:
        """Begin to write a file; `run`: what `names.run_name` made for this run.  Raises NoRoom or StoreFailed."""

    def remove(self, path: str) -> None:
        """Remove a file, if it is there.  Raises StoreFailed."""

    def made_by_us(self, path: str) -> bool:
        """Return whether it shows that a run of this program has made a file, without what other files say of it."""

    def cancel(self, begin: str, wanted: Callable[[str], bool]) -> None:
        """Let no other run finish what it is writing under names that begin so, and are wanted."""

    def alone(self, path: str) -> AbstractContextManager[None]:
        """Keep runs from taking a file that is not published meanwhile.  Raises Busy if an active one has made it."""

    def sweep(self, path: str) -> bool:
        """Remove a temporary file unless an active run writes it; return whether none does."""

    def retain(self, path: str, until: int) -> None:
        """Let nobody remove a file before then, in seconds since 1970.  Raises StoreRefused."""

    def retained(self, path: str) -> int:
        """Return until when nobody can remove a file, in seconds since 1970; 0: anybody may.  Raises OSError."""

    def keeps_removed(self) -> bool | None:
        """Return whether files are still there, under no name, once they are removed; None: it does not tell."""

    def sync(self) -> None:
        """Make all names last that were given or removed.  Raises StoreFailed."""

    def locked(self, name: str, patience_s: float) -> AbstractContextManager[None]:
        """Hold the lock of this name, which ends with this process.  Raises SetLocked if another still does then."""

    def room(self) -> int | None:
        """Return the bytes that are free in it; None where that is not known."""


class Sequence:
    """A file, or its part from `place` to `end` (bytes), from begin to end."""

    def __init__(self, blob: Blob, place: int = 0, end: int | None = None) -> None:
        self._blob, self.place, self._end = blob, place, end

    def read(self, size: int) -> bytes:
        """Return up to size bytes from where the last call ended; fewer only at the end."""
        if self._end is not None:
            size = min(size, self._end - self.place)
        data = self._blob.pread(size, self.place)
        self.place += len(data)
        return data


def head(place: Place, path: str, most: int) -> bytes:
    """Return the first bytes of a file, `most` at most.  Raises as Place.open."""
    blob = place.open(path)
    try:
        return blob.pread(min(most, blob.size), 0)
    finally:
        blob.close()


def hash_of(blob: Blob) -> StoredFile:
    """Read a file and return its size and SHA-256.  Raises as Blob.pread."""
    digest, at = hashlib.sha256(), 0
    while piece := blob.pread(PIECE, at):
        digest.update(piece)
        at += len(piece)
    return StoredFile(at, digest.hexdigest())
