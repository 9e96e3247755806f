"""The volume on its host: a block device or a file; its size, holes and bytes."""

import errno
import os
import stat

from .errors import AgentError
from .pagecache import PageCache

# Linux's numbers, where a python (pypy) has no names for them
_SEEK_DATA = getattr(os, "SEEK_DATA", 3)
_SEEK_HOLE = getattr(os, "SEEK_HOLE", 4)


class Volume:
    """An open volume; its size is what it was when it was opened."""

    def __init__(self, path):
        """Open path (bytes) for reading.

        Raises AgentError NoSuchVolume if it is missing, unreadable, or neither a block
        device nor a regular file.
        """
        self.path = path
        try:
            # opening a FIFO must not block: so look before, and open without blocking
            mode = os.stat(path).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
                raise AgentError("NoSuchVolume", self._name(), "it is %s, not a file or block device" % _kind(mode))
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except PermissionError as error:
            raise AgentError("NoPermission", self._name(), error.strerror) from None
        except OSError as error:
            raise AgentError("NoSuchVolume", self._name(), error.strerror) from None
        except ValueError as error:  # a name that no file can have
            raise AgentError("NoSuchVolume", self._name(), error) from None
        self._regular = stat.S_ISREG(os.fstat(self._fd).st_mode)
        self.kind = "file" if self._regular else "block"
        self.size = os.lseek(self._fd, 0, os.SEEK_END)  # bytes
        self.cache = PageCache(self._fd, self.size)

    def _name(self):
        return self.path.decode("utf-8", "backslashreplace")

    def read_into(self, view, offset):
        """Fill view with the bytes from offset on.

        Raises AgentError ReadFailed, also if the volume ends before: it shrank.  Mapping the volume
        instead takes longer even where all of it is in memory, and a read error would be a signal.
        """
        length = len(view)
        done = 0
        while done < length:
            try:
                if hasattr(os, "preadv"):
                    got = os.preadv(self._fd, [view[done:]], offset + done)
                else:  # python 3.6
                    data = os.pread(self._fd, length - done, offset + done)
                    got = len(data)
                    view[done : done + got] = data
            except OSError as error:
                reason = "%s at byte %d" % (error.strerror, offset + done)
                raise AgentError("ReadFailed", self._name(), reason) from None
            if got == 0:
                reason = "it ended at byte %d of %d: it shrank while it was read" % (offset + done, self.size)
                raise AgentError("ReadFailed", self._name(), reason)
            done += got

    def check_size(self):
        """Raise AgentError ReadFailed if the volume is shorter now than when it was opened."""
        size = os.lseek(self._fd, 0, os.SEEK_END)
        if size < self.size:
            raise AgentError("ReadFailed", self._name(), "it shrank from %d to %d bytes" % (self.size, size))

    def regions(self):
        """Yield (start, end, is_hole) over the whole volume, in order; a hole only if that is known."""
        place = 0
        while place < self.size:
            data = place
            if self._regular:
                try:
                    data = min(os.lseek(self._fd, place, _SEEK_DATA), self.size)
                except OSError as error:
                    if error.errno == errno.ENXIO:  # no data up to the end
                        data = self.size
            if data > place:
                yield place, data, True
                place = data
                continue
            end = self.size
            if self._regular:
                try:
                    end = min(os.lseek(self._fd, place, _SEEK_HOLE), self.size)
                except OSError:
                    pass
            if end <= place:
                end = self.size
            yield place, end, False
            place = end

    def close(self):
        """Close the volume."""
        self.cache.close()
        os.close(self._fd)


def same(path, other):
    """Return whether two paths lead to one block device or file."""
    try:
        one, two = os.stat(path), os.stat(other)
    except (OSError, ValueError):
        return False
    if stat.S_ISBLK(one.st_mode) and stat.S_ISBLK(two.st_mode):
        return one.st_rdev == two.st_rdev
    return os.path.samestat(one, two)


def _kind(mode):
    for test, name in (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a character device"),
    ):
        if test(mode):
            return name
    return "something else"
