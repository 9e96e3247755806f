"""A place that is a folder of this machine."""

import contextlib
import os
from collections.abc import Iterable

from blockdiff.place.base import Look


class File:
    """A file that is open for reading; see place.base.Blob."""

    def __init__(self, fd: int, path: str = "") -> None:
        """Take over a descriptor; `path`: what errors call the file."""
        self._fd, self._path = fd, path

    @property
    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def look(self) -> Look:
        return _look(os.fstat(self._fd))

    def pread(self, length: int, offset: int) -> bytes:
        try:
            data = os.pread(self._fd, length, offset)
            while len(data) < length and (more := os.pread(self._fd, length - len(data), offset + len(data))):
                data += more
        except OSError as error:
            error.filename = self._path
            raise
        return data

    def in_order(self) -> None:
        with contextlib.suppress(OSError):
            os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)

    def again(self) -> "File":
        return File(os.dup(self._fd), self._path)

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


def open_file(path: str) -> File:
    """Open a file for reading.  Raises OSError."""
    return File(os.open(path, os.O_RDONLY | os.O_CLOEXEC), path)


class Folder:
    """A folder; see place.base.Place."""

    def __init__(self, path: str) -> None:
        self.at = path
        self._before = os.path.join(path, "")  # a listing asks for some ten paths of each version

    def path(self, name: str) -> str:
        return self._before + name

    def names(self, begin: str = "") -> list[str]:
        return os.listdir(self.at)

    def look(self, path: str) -> Look:
        return _look(os.stat(path))

    def looks(self, paths: Iterable[str]) -> dict[str, Look | None]:
        out: dict[str, Look | None] = {}
        for path in paths:
            out[path] = None
            with contextlib.suppress(OSError):
                out[path] = self.look(path)
        return out

    def open(self, path: str) -> File:
        return open_file(path)

    def room(self) -> int | None:
        try:
            found = os.statvfs(self.at)
        except OSError:
            return None
        return (found.f_bfree if os.geteuid() == 0 else found.f_bavail) * found.f_frsize


def _look(found: os.stat_result) -> Look:
    return Look(found.st_size, found.st_mtime_ns, (found.st_dev, found.st_ino))
