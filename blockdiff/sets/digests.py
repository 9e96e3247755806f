"""A version's MD5 digests, read from its digest file as they are needed.

The file of a volume of terabytes is large: only windows of it are ever in memory.
Format: blockdiff-formats(5), "Digest file".
"""

import hashlib
import os
from collections.abc import Callable
from types import TracebackType

from blockdiff.errors import DamagedFile, MissingFile, NotOurFormat, StoreUnreadable
from blockdiff.formats import BYTES_OF_DIGEST, FormatError, TornError, digestfile
from blockdiff.sets.version import open_file

_WINDOW = 1024  # digests that a Window reads at once
_PIECE = 1024 * 1024  # bytes that are hashed at once


class Digests:
    """The digests of one version; any thread may ask."""

    def __init__(self, path: str, count: int, opener: Callable[[str], int] = open_file) -> None:
        """`count`: blocks of the volume.  `opener`: see VersionFiles.open.  Raises MissingFile or StoreUnreadable."""
        self.path = path
        self.count = count
        try:
            self._fd = opener(path)
        except FileNotFoundError:
            raise MissingFile(path) from None
        except OSError as error:
            raise StoreUnreadable(path, error.strerror) from None
        self._place = digestfile.HEADER_SIZE  # bytes; where `read` continues
        self._sealed: os.stat_result | None = None

    def __enter__(self) -> "Digests":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def fileno(self) -> int:
        """Return the descriptor; nothing here moves its position."""
        return self._fd

    def seal(self) -> str:
        """Return the SHA-256 of the whole file, in hex; `intact` from now on compares with it.

        Raises StoreUnreadable.
        """
        digest, place = hashlib.sha256(), 0
        try:
            self._sealed = os.fstat(self._fd)
            while piece := os.pread(self._fd, _PIECE, place):
                digest.update(piece)
                place += len(piece)
        except OSError as error:
            raise StoreUnreadable(self.path, error.strerror) from None
        return digest.hexdigest()

    def intact(self) -> bool:
        """Return whether the path still leads to the sealed file, and the file was not written to since."""
        try:
            found = os.stat(self.path)
        except OSError:
            return False
        old = self._sealed
        return old is not None and (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns) == (
            old.st_dev, old.st_ino, old.st_size, old.st_mtime_ns,
        )  # fmt: skip

    def read(self, size: int) -> bytes:
        """Return up to size bytes of digests from where the last call ended, b"" at the end; one thread only."""
        data = os.pread(self._fd, min(size, digestfile.position(self.count) - self._place), self._place)
        self._place += len(data)
        return data

    def rewind(self) -> None:
        """Let `read` begin with the first digest again."""
        self._place = digestfile.HEADER_SIZE

    def take(self, first: int, count: int) -> bytes:
        """Return the digests of these blocks, joined.

        Raises DamagedFile if the file ends before them, or StoreUnreadable.
        """
        size = count * BYTES_OF_DIGEST
        place = digestfile.position(first)
        try:
            data = os.pread(self._fd, size, place)
            while len(data) < size:
                more = os.pread(self._fd, size - len(data), place + len(data))
                if not more:
                    raise DamagedFile(self.path, f"it ends before the digest of block {first + count - 1}")
                data += more
        except OSError as error:
            raise StoreUnreadable(self.path, error.strerror) from None
        return data

    def window(self) -> "Window":
        """Return a reader of single digests, for one thread."""
        return Window(self)


def open_digests(path: str, name: str = "") -> tuple[int, Digests]:
    """Open a digest file; returns its block size in bytes, and its digests, which the caller closes.

    `name`: what errors call the file, if not by its path.  Raises MissingFile, StoreUnreadable,
    DamagedFile or NotOurFormat.
    """
    found = Digests(path, 0)
    try:
        block_size = digestfile.decode_header(os.pread(found.fileno(), digestfile.HEADER_SIZE, 0))
        found.count = digestfile.count(os.fstat(found.fileno()).st_size)
        return block_size, found
    except BaseException as error:
        found.close()
        if isinstance(error, TornError):
            raise DamagedFile(name or path, error) from None
        if isinstance(error, FormatError):
            raise NotOurFormat(name or path, error) from None
        if isinstance(error, OSError):
            raise StoreUnreadable(name or path, error.strerror) from None
        raise


class Window:
    """Single digests, quickest in the order of their blocks."""

    def __init__(self, digests: Digests) -> None:
        self._digests = digests
        self._first = self._stop = 0
        self._data = b""

    def of(self, index: int) -> bytes:
        """Return the digest of this block."""
        if not self._first <= index < self._stop:
            self._first, self._stop = index, min(index + _WINDOW, self._digests.count)
            self._data = self._digests.take(index, self._stop - index)
        place = (index - self._first) * BYTES_OF_DIGEST
        return self._data[place : place + BYTES_OF_DIGEST]
