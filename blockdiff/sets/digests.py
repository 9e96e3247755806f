"""A version's MD5 digests, read from its digest file as they are needed.

The file of a volume of terabytes is large: only windows of it are ever in memory.
Format: blockdiff-formats(5), "Digest file".
"""

import contextlib
from types import TracebackType

from blockdiff.errors import DamagedFile, MissingFile, NotOurFormat, StoreUnreadable
from blockdiff.formats import BYTES_OF_DIGEST, FormatError, TornError, digestfile
from blockdiff.place.base import Look, Opener, hash_of
from blockdiff.place.folder import open_file

_WINDOW = 1024  # digests that a Window reads at once


class Digests:
    """The digests of one version; any thread may ask."""

    def __init__(self, path: str, count: int, opener: Opener = open_file) -> None:
        """`count`: blocks of the volume.  `opener`: see VersionFiles.open.  Raises MissingFile or StoreUnreadable."""
        self.path = path
        self.count = count
        try:
            self._blob = opener(path)
        except FileNotFoundError:
            raise MissingFile(path) from None
        except OSError as error:
            raise StoreUnreadable(path, error.strerror) from None
        self._place = digestfile.HEADER_SIZE  # bytes; where `read` continues
        self._opener = opener
        self._sealed: Look | None = None

    def __enter__(self) -> "Digests":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._blob.close()

    def fileno(self) -> int:
        """Return the descriptor; nothing here moves its position."""
        return self._blob.fileno()

    @property
    def size(self) -> int:
        """Bytes of the file.  Raises OSError."""
        return self._blob.size

    def seal(self) -> str:
        """Return the SHA-256 of the whole file, in hex; `intact` from now on compares with it.

        Raises StoreUnreadable.
        """
        try:
            self._sealed = self._blob.look()
            found = hash_of(self._blob)
        except OSError as error:
            raise StoreUnreadable(self.path, error.strerror) from None
        return found.sha256

    def intact(self) -> bool:
        """Return whether the path still leads to the sealed file, and the file was not written to since."""
        try:
            with contextlib.closing(self._opener(self.path)) as now:
                return now.look() == self._sealed == self._blob.look()
        except OSError:
            return False

    def head(self, size: int) -> bytes:
        """Return the first bytes of the file.  Raises OSError."""
        return self._blob.pread(size, 0)

    def read(self, size: int) -> bytes:
        """Return up to size bytes of digests from where the last call ended, b"" at the end; one thread only."""
        data = self._blob.pread(min(size, digestfile.position(self.count) - self._place), self._place)
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
            data = self._blob.pread(size, place)
        except OSError as error:
            raise StoreUnreadable(self.path, error.strerror) from None
        if len(data) < size:
            raise DamagedFile(self.path, f"it ends before the digest of block {first + count - 1}")
        return data

    def window(self) -> "Window":
        """Return a reader of single digests, for one thread."""
        return Window(self)


def open_digests(path: str, name: str = "", opener: Opener = open_file) -> tuple[int, Digests]:
    """Open a digest file; returns its block size in bytes, and its digests, which the caller closes.

    `name`: what errors call the file, if not by its path.  Raises MissingFile, StoreUnreadable,
    DamagedFile or NotOurFormat.
    """
    found = Digests(path, 0, opener)
    try:
        block_size = digestfile.decode_header(found.head(digestfile.HEADER_SIZE))
        found.count = digestfile.count(found.size)
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
