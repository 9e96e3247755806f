"""The parent's digest files, as a new version reads them."""

import os

from blockdiff.errors import StoreFailed, TornFile
from blockdiff.formats import BYTES_OF_DIGEST, digestfile


class OldDigests:
    """A digest file, open: for the agent from front to end, for the new version by place."""

    def __init__(self, path: str, count: int) -> None:
        """Open it; `count` is the number of its blocks.  Raises StoreFailed."""
        self.count = count
        self._path = path
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise StoreFailed(path, error.strerror) from None
        self._place = digestfile.HEADER_SIZE
        self._end = digestfile.position(count)

    def read(self, size: int) -> bytes:
        """Return up to size bytes of digests from where the last call ended, b"" at the end."""
        data = os.pread(self._fd, min(size, self._end - self._place), self._place)
        self._place += len(data)
        return data

    def take(self, first: int, count: int) -> bytes:
        """Return the digests of these blocks.  Raises TornFile."""
        size = count * BYTES_OF_DIGEST
        data = os.pread(self._fd, size, digestfile.position(first))
        if len(data) != size:
            raise TornFile(self._path, "it became shorter while it was read")
        return data

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)
