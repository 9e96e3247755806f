"""Files of a guest, written into a folder; the names were chosen by somebody whom nobody trusts.

Every folder on the way is opened without following links, each file is new, owners and the bits that give
rights are not kept, and devices are not made.
"""

import contextlib
import errno
import os
from collections.abc import Iterator

from blockdiff.errors import NoRoom, TargetFailed, TargetRefused
from blockdiff.guest.answers import Data, Entry

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_RIGHTS = 0o777
_MOST_SHARED = 1_000_000  # files with several names that are remembered


class Folder:
    """Where files are written, as a context manager."""

    def __init__(self, path: str) -> None:
        """Make the folder, if there is none.  Raises TargetRefused."""
        self._path = path
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(path, 0o700)
            self._root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise TargetRefused(path, str(error.strerror)) from None
        self._open: list[tuple[str, Entry]] = []  # folders that get their mode when they are full
        self._file: int | None = None
        self._entry: Entry | None = None
        self._name = ""
        self._shared: dict[str, str] = {}  # in the guest -> here

    def __enter__(self) -> "Folder":
        return self

    def __exit__(self, kind: type[BaseException] | None, *more: object) -> None:
        """Complete what was begun; a file that an error has cut short is removed."""
        try:
            if kind is not None:
                self.remove()
            with self._errors(""):
                self._complete()
                self._leave("")
        finally:
            if self._file is not None:
                os.close(self._file)
            os.close(self._root)

    def put(self, entry: Entry, name: str) -> str:
        """Make an entry with this name ("": the folder itself); return why it is left out, or "".

        Raises TargetRefused if the name is taken, or a link is on the way; NoRoom or TargetFailed.
        """
        with self._errors(name):
            self._complete()
            self._leave(name)
            if not name:
                return ""
            with self._parent(name) as (parent, last):
                return self._make(entry, name, parent, last)

    def write(self, data: Data) -> None:
        """Write bytes of the file that was put last.  Raises NoRoom or TargetFailed."""
        assert self._file is not None and self._entry is not None
        with self._errors(self._name):
            view = memoryview(data.content)
            offset = data.offset
            while view:
                written = os.pwrite(self._file, view, offset)
                view = view[written:]
                offset += written

    def remove(self) -> None:
        """Remove the file that was put last, of which the rest cannot be read."""
        if self._file is None or self._entry is None:
            return
        os.close(self._file)
        self._file = None
        self._shared.pop(self._entry.name, None)
        with self._errors(self._name), self._parent(self._name) as (parent, last):
            os.unlink(last, dir_fd=parent)

    def _make(self, entry: Entry, name: str, parent: int, last: str) -> str:
        if entry.type == "file":
            self._file = os.open(last, _NEW, 0o600, dir_fd=parent)
            self._entry, self._name = entry, name
            if entry.shared and len(self._shared) < _MOST_SHARED:
                self._shared[entry.name] = name
        elif entry.type == "dir":
            os.mkdir(last, 0o700, dir_fd=parent)
            self._open.append((name, entry))
        elif entry.type == "symlink":
            os.symlink(entry.target, last, dir_fd=parent)
            os.utime(last, ns=(entry.mtime, entry.mtime), dir_fd=parent, follow_symlinks=False)
        elif entry.type == "link":
            if entry.target not in self._shared:
                return "second names of files that were not written"
            with self._parent(self._shared[entry.target]) as (other, earlier):
                os.link(earlier, last, src_dir_fd=other, dst_dir_fd=parent, follow_symlinks=False)
        else:
            return "devices, pipes and sockets"
        return ""

    def _complete(self) -> None:
        """Close the file that was put last."""
        if self._file is not None and self._entry is not None:
            os.ftruncate(self._file, self._entry.size)
            os.fchmod(self._file, self._entry.mode & _RIGHTS)
            os.utime(self._file, ns=(self._entry.mtime, self._entry.mtime))
            os.close(self._file)
            self._file = None

    def _leave(self, name: str) -> None:
        """Give the folders in which `name` is not their mode and time."""
        while self._open and not name.startswith(self._open[-1][0] + "/"):
            folder, entry = self._open.pop()
            with self._parent(folder) as (parent, last):
                fd = os.open(last, _FOLDER, dir_fd=parent)
                try:
                    os.fchmod(fd, entry.mode & _RIGHTS)
                    os.utime(fd, ns=(entry.mtime, entry.mtime))
                finally:
                    os.close(fd)

    @contextlib.contextmanager
    def _parent(self, name: str) -> Iterator[tuple[int, str]]:
        """Give the open folder in which `name` is, and its last component."""
        *above, last = name.split("/")
        fd = os.dup(self._root)
        try:
            for component in above:
                inner = os.open(component, _FOLDER, dir_fd=fd)
                os.close(fd)
                fd = inner
            yield fd, last
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        path = os.path.join(self._path, name)
        try:
            yield
        except (FileExistsError, NotADirectoryError) as error:
            raise TargetRefused(path, str(error.strerror)) from None
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NoRoom(path, hint="the files before it are complete") from None
            raise TargetFailed(path, str(error.strerror)) from None
