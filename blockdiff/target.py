"""What a restore writes: a new file, a file that is there, or a block device.

A new file is written under a temporary name beside its own (`.blockdiff-part`) and gets
its name only when it is whole and on the disk: a half restored file never looks like one.
What is there already is written in place; what refuses that is in site.py.
"""

import ctypes
import errno
import fcntl
import os
import struct
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from blockdiff.errors import TargetFailed, TargetRefused
from blockdiff.site import DEVICE, FILE, NEW, Look

PART = ".blockdiff-part"  # ending of the temporary name
_BLKZEROOUT = 0x127F
_FALLOC_FL_ZERO_RANGE = 0x10
_PAGE = 4096  # bytes; only whole pages of a device are zeroed by the kernel, next to them may be fresh data
_ZEROS = bytes(1024 * 1024)
_IOV = 512  # buffers of one system call

Buffer = bytes | bytearray | memoryview


class Target:
    """An open target; `write` and `zero` may be called by any thread."""

    def __init__(self, seen: Look, size: int | None = None, force: bool = False) -> None:
        """Open what was looked at and checked; `size`: bytes that a file will have, where that is known.

        Raises TargetRefused or TargetFailed; nothing was written then.
        """
        self.path, self.kind, self.size_before = seen.path, seen.kind, seen.size
        self.created = seen.kind == NEW
        self.warnings: list[str] = []
        self._fresh = self.created or (seen.kind == FILE and seen.size == 0)  # nothing but holes so far
        self._working = seen.path + PART if self.created else seen.path
        self._zeroes = True  # whether the kernel zeroes ranges for us
        self._fd = self._open(force)
        if size is not None:
            try:
                self.resize(size)
            except BaseException:
                self.close()
                raise

    def __enter__(self) -> "Target":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self, force: bool) -> int:
        flags = os.O_RDWR | os.O_CLOEXEC
        try:
            if self.created:
                return self._open_part(flags)
            if self.kind == FILE:
                return os.open(self.path, flags)
            try:
                return os.open(self.path, flags | os.O_EXCL)
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                if not force:
                    raise TargetRefused(self.path, "somebody holds it; the system does not say who") from None
                self.warnings.append(f"{self.path} is in use by somebody else while it is written")
                return os.open(self.path, flags)
        except OSError as error:
            raise TargetRefused(self.path, error.strerror) from None

    def _open_part(self, flags: int) -> int:
        """Open the temporary file; one that a dead run left is replaced, one that lives is not."""
        fd = os.open(self._working, flags | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(fd, 0)
        except OSError as error:
            os.close(fd)
            if isinstance(error, BlockingIOError):
                raise TargetRefused(self.path, f"another run is writing {self._working}") from None
            raise
        return fd

    @property
    def standing(self) -> str:
        """The path under which what was written so far stands."""
        return self._working

    def _failed(self, error: OSError) -> TargetFailed:
        return TargetFailed(self._working, error.strerror or error)

    def write(self, offset: int, parts: Sequence[Buffer]) -> None:
        """Write the parts, one after the other, at offset (bytes).  Raises TargetFailed."""
        try:
            for start in range(0, len(parts), _IOV):
                some = list(parts[start : start + _IOV])
                while some:
                    done = os.pwritev(self._fd, some, offset)
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
        """Let these bytes be zeros: a hole where nothing was, else written.  Raises TargetFailed."""
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
        """Have the kernel zero whole pages; tell whether it could."""
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
        """Return the bytes that stand there now; fewer at the end.  Raises TargetFailed."""
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
        """Give a file its exact size, put all on the disk and let it have its name.

        Raises TargetFailed or TargetRefused; the target is closed in any case.
        """
        try:
            self.resize(size)
            os.fsync(self._fd)
            if self.created:
                self._take_name()
        except OSError as error:
            raise self._failed(error) from None
        finally:
            self.close()

    def _take_name(self) -> None:
        why = f"it was created meanwhile; the restored file is {self._working}"
        try:
            os.link(self._working, self.path)  # fails if something came to stand there meanwhile
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

    def sync(self) -> None:
        """Put on the disk what was written so far.  Raises TargetFailed."""
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise self._failed(error) from None

    def close(self) -> None:
        """Close; what was written stays as it is.  May be called twice."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


def _fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """Call fallocate(2), which the os module has without its mode.  Raises OSError."""
    libc: Any = ctypes.CDLL(None, use_errno=True)
    call = getattr(libc, "fallocate64", None) or libc.fallocate
    call.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    if call(fd, mode, offset, length) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
