"""Write a restore's target: a new file, an existing file, or a block device.

A new file is written under a temporary name beside its own (`.blockdiff-part`) and gets
its name only when it is complete and on the disk: no incomplete file has the final name.
An existing target is written in place; precheck.py decides whether it may be.
Also runs on the host of a target: stdlib only, Python 3.6.
"""

import contextlib
import errno
import fcntl
import os
import stat
import struct
from types import TracebackType
from typing import Any, List, Optional, Sequence, Type

from blockdiff.errors import TargetFailed, TargetRefused
from blockdiff.formats import Buffer
from blockdiff.target.state import BUSY, DEVICE, NEW, TargetState

PART = ".blockdiff-part"  # ending of the temporary name
_BLKZEROOUT = 0x127F
_FALLOC_FL_ZERO_RANGE = 0x10
_PAGE = 4096  # bytes; the kernel zeroes only whole pages of a device: beside them may be data just written
_ZEROS = bytes(1024 * 1024)
_IOV = 512  # buffers of one system call


class Target:
    """An open target; `write` and `zero` may be called by any thread."""

    def __init__(self, seen: TargetState, size: Optional[int] = None, keep: bool = False) -> None:
        """Open a target that was checked; `size`: bytes that a file will have, where that is known.

        `keep`: continue the temporary file that an ended run left.  Raises TargetRefused or
        TargetFailed; nothing was written then.
        """
        self._keep = keep
        self.path, self.kind, self.size_before = seen.path, seen.kind, seen.size
        self.created = seen.kind == NEW
        self._working = seen.path + PART if self.created else seen.path
        self.durable = False  # all of it has been written and is on the disk
        self._zeroes = True  # whether the kernel zeroes ranges for us
        self._fd = self._open()
        self._fresh = seen.kind != DEVICE and os.fstat(self._fd).st_size == 0  # nothing but holes so far
        if size is not None:
            try:
                self.resize(size)
            except BaseException:
                self.close()
                if self.created:
                    os.unlink(self._working)
                raise

    def __enter__(self) -> "Target":
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CLOEXEC
        try:
            if self.created:
                return self._open_part(flags)
            # of a device, one that nothing uses meanwhile
            return os.open(self.path, flags | (os.O_EXCL if self.kind == DEVICE else 0))
        except OSError as error:
            raise TargetRefused(self.path, BUSY if error.errno == errno.EBUSY else error.strerror) from None

    def _open_part(self, flags: int) -> int:
        """Open the temporary file; one that an ended run left is replaced or continued, one in use is not."""
        fd = os.open(self._working, flags | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            _claim_part(fd, self.path)
            os.fchmod(fd, 0o600)
            if not self._keep:
                os.ftruncate(fd, 0)
        except BaseException:
            os.close(fd)
            raise
        return fd

    @property
    def written_path(self) -> str:
        """The path of the file or device that is written."""
        return self._working

    def left(self) -> str:
        """Return what a failed run leaves and the next step, for a person; "" if nothing."""
        if not self.created:
            return f"{self.path} is partly written; running again writes all of it"
        try:
            taken = os.stat(self._working).st_blocks * 512
        except OSError:
            return ""
        if self.durable:
            return f"{self._working} is complete; rename it"
        return f"{self._working} is left and takes {taken} bytes; running again replaces it, rm frees them"

    def _failed(self, error: OSError) -> TargetFailed:
        return TargetFailed(self._working, error.strerror or error)

    def write(self, offset: int, parts: Sequence[Buffer]) -> None:
        """Write the parts, one after the other, at offset (bytes).  Raises TargetFailed."""
        try:
            for start in range(0, len(parts), _IOV):
                some = list(parts[start : start + _IOV])
                while some:
                    done = _pwritev(self._fd, some, offset)
                    if not done:
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                    offset += done
                    while some and done >= len(some[0]):
                        done -= len(some.pop(0))
                    if done:
                        some[0] = memoryview(some[0])[done:]
        except OSError as error:
            raise self._failed(error) from None

    def zero(self, offset: int, length: int) -> None:
        """Make these bytes zeros: a hole in a new file, else written.  Raises TargetFailed."""
        if self._fresh or length <= 0:
            return
        end = offset + length
        low, high = -(-offset // _PAGE) * _PAGE, end // _PAGE * _PAGE
        if not self._zeroes or high <= low or not self._kernel_zeroes(low, high - low):
            self._write_zeros(offset, end)
            return
        self._write_zeros(offset, low)
        self._write_zeros(high, end)

    def _kernel_zeroes(self, offset: int, length: int) -> bool:
        """Have the kernel zero whole pages; return whether it could."""
        try:
            if self.kind == DEVICE:
                fcntl.ioctl(self._fd, _BLKZEROOUT, struct.pack("QQ", offset, length))
            else:
                _fallocate(self._fd, _FALLOC_FL_ZERO_RANGE, offset, length)
        except OSError as error:
            if error.errno in (errno.EIO, errno.ENOSPC):
                raise self._failed(error) from None
            self._zeroes = False
            return False
        return True

    def _write_zeros(self, offset: int, end: int) -> None:
        zeros = memoryview(_ZEROS)
        while offset < end:
            length = min(len(zeros), end - offset)
            self.write(offset, [zeros[:length]])
            offset += length

    def read(self, offset: int, length: int) -> bytes:
        """Return the bytes that are there now; fewer at the end.  Raises TargetFailed."""
        try:
            return os.pread(self._fd, length, offset)
        except OSError as error:
            raise self._failed(error) from None

    def resize(self, size: int) -> None:
        """Give a file this size; a device keeps its own.  Raises TargetFailed."""
        try:
            if self.kind != DEVICE:
                os.ftruncate(self._fd, size)
        except OSError as error:
            raise self._failed(error) from None

    def finish(self, size: int) -> None:
        """Give a file its exact size, put all on the disk and give it its name.

        Raises TargetFailed or TargetRefused; the target is closed in any case.
        """
        try:
            self.resize(size)
            os.fsync(self._fd)
            self.durable = True
            if self.created:
                self._take_name()
        except OSError as error:
            raise self._failed(error) from None
        finally:
            self.close()

    def _take_name(self) -> None:
        why = f"it was created meanwhile; the restored file is {self._working}"
        try:
            os.link(self._working, self.path)  # fails if the name was taken meanwhile
            os.unlink(self._working)
        except FileExistsError:
            raise TargetRefused(self.path, why) from None
        except OSError:  # no hard links here
            if os.path.lexists(self.path):
                raise TargetRefused(self.path, why) from None
            os.rename(self._working, self.path)
        folder = os.open(os.path.dirname(self.path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def stop(self) -> None:
        """Do nothing: no call waits for another machine."""

    def sync(self) -> None:
        """Flush to the disk what was written so far.  Raises TargetFailed."""
        try:
            if not self.durable:
                os.fsync(self._fd)
        except OSError as error:
            raise self._failed(error) from None

    def close(self) -> None:
        """Close; what was written stays as it is.  May be called twice."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


def _pwritev(fd: int, parts: List[Buffer], offset: int) -> int:
    """Write parts at an offset, or some of them; return how many bytes."""
    if hasattr(os, "pwritev"):
        return os.pwritev(fd, parts, offset)
    return os.pwrite(fd, parts[0], offset)  # python 3.6


def rehearse(seen: TargetState) -> None:
    """Raise TargetRefused where Target would, and change nothing."""
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        if seen.kind == NEW:
            try:  # a file without a name leaves nothing
                os.close(os.open(os.path.dirname(seen.path) or ".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600))
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
                    raise
            with contextlib.suppress(FileNotFoundError):
                fd = os.open(seen.path + PART, flags)
                try:
                    _claim_part(fd, seen.path)
                finally:
                    os.close(fd)
        else:
            Target(seen).close()
    except OSError as error:
        raise TargetRefused(seen.path, error.strerror) from None


def room(seen: TargetState) -> Optional[int]:
    """Return the free space for a file, in bytes; None if that is not known."""
    if seen.kind == DEVICE:
        return None
    taken = 0
    try:
        found = os.statvfs(os.path.dirname(os.path.realpath(seen.path)))
        with contextlib.suppress(FileNotFoundError):  # what an ended run left is replaced
            taken = os.stat(seen.path + PART).st_blocks * 512
    except OSError:
        return None
    free = found.f_bfree if os.geteuid() == 0 else found.f_bavail
    return free * found.f_frsize + taken if found.f_blocks else None


def _claim_part(fd: int, path: str) -> None:
    """Lock the open temporary file of path.  Raises TargetRefused if it is in use or not ours, and OSError."""
    part = path + PART
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_nlink > 1:
        raise TargetRefused(path, f"{part} is there and was not made by a restore of this user")
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise TargetRefused(path, f"another run is writing {part}") from None


def _fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """Call fallocate(2), which the os module has without its mode.  Raises OSError."""
    try:
        import ctypes
    except ImportError:  # a python built without it
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from None
    libc: Any = ctypes.CDLL(None, use_errno=True)
    call = getattr(libc, "fallocate64", None) or libc.fallocate
    call.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    if call(fd, mode, offset, length) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
