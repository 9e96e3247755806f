"""In the guest: what is in a folder, and files with all that is in them, sent one after another."""

import os
import stat
from collections.abc import Callable, Iterator
from typing import Any

from blockdiff.guest import messages

_READ = 256 * 1024  # bytes of a file that are sent at a time
_TYPES = (
    (stat.S_ISREG, "file"), (stat.S_ISDIR, "dir"), (stat.S_ISLNK, "symlink"), (stat.S_ISCHR, "char"),
    (stat.S_ISBLK, "block"), (stat.S_ISFIFO, "fifo"), (stat.S_ISSOCK, "socket"),
)  # fmt: skip


class Tree:
    """The file system, which is our root folder now."""

    def __init__(self, send: Callable[[bytes], None], tell: Callable[..., None]) -> None:
        self._send = send
        self._tell = tell
        self._names: dict[tuple[int, int], str] = {}  # of files with several names: the first one

    def send(self, number: int, path: str, *, listing: bool) -> None:
        """Send what is at `path`, with all in it, or as a listing with what is directly in it."""
        try:
            status = os.lstat(path)
        except OSError as error:
            self._tell(kind="absent", path=number, text=error.strerror)
            return
        self._tell(kind="path", path=number)
        if listing:
            folder = stat.S_ISDIR(status.st_mode)
            for name in self._inside(path) if folder else [path]:
                self._visit(name, contents=False)
            return
        # with the folders on the way: a damaged one may be inside itself
        stack: list[tuple[Iterator[str], tuple[int, int]]] = [(iter([path]), (0, 0))]
        while stack:
            each = next(stack[-1][0], None)
            if each is None:
                stack.pop()
                continue
            found = self._visit(each, contents=True)
            if found is not None and stat.S_ISDIR(found.st_mode):
                identity = (found.st_dev, found.st_ino)
                if identity in [above for _, above in stack]:
                    self._tell(kind="unread", name=each[1:], text="the folder is inside itself")
                else:
                    stack.append((self._inside(each), identity))

    def _inside(self, folder: str) -> Iterator[str]:
        names: list[str] = []
        try:
            with os.scandir(folder) as found:
                names.extend(each.name for each in found)
        except OSError as error:  # the names before it are good
            self._tell(kind="unread", name=folder[1:], text=error.strerror)
        for name in sorted(names):
            yield os.path.join(folder, name)

    def _visit(self, path: str, *, contents: bool) -> os.stat_result | None:
        try:
            status = os.lstat(path)
            entry = self._entry(path, status)
        except OSError as error:
            self._tell(kind="unread", name=path[1:], text=error.strerror)
            return None
        if not contents:
            self._tell(**entry)
        elif entry["type"] == "file":
            self._send_file(path, entry)
        else:
            self._tell(**entry)
        return status

    def _entry(self, path: str, status: os.stat_result) -> dict[str, Any]:
        kind = next(name for fits, name in _TYPES if fits(status.st_mode))
        entry: dict[str, Any] = {
            "kind": "entry", "name": path[1:], "type": kind, "mode": stat.S_IMODE(status.st_mode),
            "uid": status.st_uid, "gid": status.st_gid, "mtime": status.st_mtime_ns,
            "size": status.st_size if kind == "file" else 0, "shared": False,
            "target": os.readlink(path) if kind == "symlink" else "",
            "device": [os.major(status.st_rdev), os.minor(status.st_rdev)],
        }  # fmt: skip
        return entry

    def _send_file(self, path: str, entry: dict[str, Any]) -> None:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError as error:
            self._tell(kind="unread", name=path[1:], text=error.strerror)
            return
        try:
            status = os.fstat(fd)
            identity = (status.st_dev, status.st_ino)
            if status.st_nlink > 1 and identity in self._names:
                self._tell(**entry | {"type": "link", "target": self._names[identity], "size": 0})
                return
            self._tell(**entry | {"shared": status.st_nlink > 1})
            if status.st_nlink > 1:
                self._names[identity] = entry["name"]
            try:
                self._send_data(fd, status.st_size)
            except OSError as error:
                self._names.pop(identity, None)
                self._tell(kind="unread", name=path[1:], text=error.strerror)
        finally:
            os.close(fd)

    def _send_data(self, fd: int, size: int) -> None:
        """Send what is no hole."""
        offset = 0
        while offset < size:
            try:
                offset = os.lseek(fd, offset, os.SEEK_DATA)
                end = os.lseek(fd, offset, os.SEEK_HOLE)
            except OSError as error:
                if error.errno == 6:  # ENXIO: holes up to the end
                    return
                raise
            end = min(end, size)
            while offset < end:
                data = os.pread(fd, min(_READ, end - offset), offset)
                if not data:
                    return
                self._send(messages.pack(messages.DATA, messages.OFFSET.pack(offset), data))
                offset += len(data)
