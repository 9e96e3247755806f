"""A place that is a folder of this machine."""

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator

from blockdiff.errors import SetLocked, StoreFailed
from blockdiff.formats.manifest import StoredFile
from blockdiff.place.base import Look, hash_of
from blockdiff.place.partfile import FILE_MODE, PartFile, is_at, lock_alone, remove_dead, write_failed

_TRIES = 10  # to lock a lock file that another program replaces
_PAUSE_S = 0.05


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

    def expect(self, parts: Iterable[tuple[int, int]]) -> None:
        pass  # the kernel reads ahead

    def again(self) -> "File":
        return File(os.dup(self._fd), self._path)

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


def open_file(path: str) -> File:
    """Open a file for reading, also one that would wait for a writer.  Raises OSError."""
    return File(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), path)


class Folder:
    """A folder; see place.base.Place."""

    blind = False
    checks = False
    claims = False
    most_beside: int | None = None
    sealed = False

    def __init__(self, path: str) -> None:
        self.at = path
        self._before = os.path.join(path, "")  # a listing asks for some ten paths of each version

    def exists(self) -> bool:
        return os.path.isdir(self.at)

    def path(self, name: str) -> str:
        return self._before + name

    def names(self, begin: str = "") -> list[str]:
        return os.listdir(self.at)

    def look(self, path: str) -> Look:
        return _look(os.stat(path))

    def size(self, path: str) -> int:
        return os.stat(path).st_size

    def first(self, path: str, most: int) -> bytes:
        with contextlib.closing(open_file(path)) as blob:
            return blob.pread(most, 0)

    def hash(self, path: str) -> StoredFile:
        with contextlib.closing(open_file(path)) as blob:
            return hash_of(blob)

    def soon(self, paths: Iterable[str], most: int, first: int = 0) -> None:
        pass  # nothing here takes long

    def looks(self, paths: Iterable[str]) -> dict[str, Look | None]:
        out: dict[str, Look | None] = {}
        for path in paths:
            out[path] = None
            with contextlib.suppress(OSError):
                out[path] = self.look(path)
        return out

    def open(self, path: str) -> File:
        return open_file(path)

    def as_sent(self, path: str, progress: Callable[[int], object]) -> bool | None:
        return None

    def part(self, name: str, run: str) -> PartFile:
        return PartFile(self.at, name, run)

    def remove(self, path: str) -> None:
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        except OSError as error:
            raise write_failed(error, path) from None

    def made_by_us(self, path: str) -> bool:
        return False  # only a manifest shows it

    def cancel(self, begin: str, wanted: Callable[[str], bool]) -> None:
        """A dead run's files have temporary names, which nothing changes."""

    @contextlib.contextmanager
    def alone(self, path: str) -> Iterator[None]:
        fd = lock_alone(path)
        try:
            yield
        finally:
            if fd is not None:
                os.close(fd)

    def sweep(self, path: str) -> bool:
        return remove_dead(path)

    def retain(self, path: str, until: int) -> None:
        raise StoreFailed(path, "a folder cannot keep a file from being removed")

    def retained(self, path: str) -> int:
        return 0

    def keeps_removed(self) -> bool | None:
        return False

    def sync(self) -> None:
        try:
            fd = os.open(self.at, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise write_failed(error, self.at) from None

    @contextlib.contextmanager
    def locked(self, name: str, patience_s: float) -> Iterator[None]:
        until = time.monotonic() + patience_s
        path = self.path(name)
        locked = SetLocked(path.removesuffix(".lock"))
        for _ in range(_TRIES):
            fd = _open_lock(path)
            try:
                try:
                    while not _flock(fd):
                        if time.monotonic() >= until:
                            raise locked
                        time.sleep(_PAUSE_S)
                except OSError as error:
                    raise StoreFailed(path, error.strerror) from None
                if is_at(fd, path):
                    yield
                    return
            finally:
                os.close(fd)
        raise locked  # another program removes the file again and again

    def room(self) -> int | None:
        try:
            found = os.statvfs(self.at)
        except OSError:
            return None
        return (found.f_bfree if os.geteuid() == 0 else found.f_bavail) * found.f_frsize


def _open_lock(path: str) -> int:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
    except OSError as error:
        raise write_failed(error, path) from None
    found = os.fstat(fd)
    empty = stat.S_ISREG(found.st_mode) and found.st_size == 0 and found.st_nlink == 1  # so it is a lock file
    if empty and stat.S_IMODE(found.st_mode) != FILE_MODE:
        with contextlib.suppress(OSError):  # another user's, or a file system without modes
            os.fchmod(fd, FILE_MODE)
    return fd


def _flock(fd: int) -> bool:
    """Take the lock; return whether no other run has it.  Raises OSError."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _look(found: os.stat_result) -> Look:
    return Look(found.st_size, found.st_mtime_ns, (found.st_dev, found.st_ino))
