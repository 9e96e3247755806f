"""A file that is being written under a temporary name: counted, hashed, and ours until it has its own name.

The file is made under a name of this run, with O_EXCL and mode 0600, so no process can have opened
it before.  Its writer holds a shared lock on it, flock(2), until the version is published.  A run
that removes temporary files, or files of a version that is not published, takes an exclusive lock
first, and so never removes a file of an active run.
A version's file gets its name by link(2), which never replaces a file.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import stat

from blockdiff.errors import ForeignFiles, NoRoom, StoreFailed, StoreUnreadable
from blockdiff.formats import manifest, names
from blockdiff.place.base import PIECE, Busy, Part

FILE_MODE = 0o600
_NAME_MAX = 255  # bytes of a file name, on whatever file system
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)  # of a file system without hard links


def write_failed(error: OSError, path: str) -> NoRoom | StoreFailed:
    """Return the error for a write that failed."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoRoom(path)
    return StoreFailed(path, error.strerror or str(error))


def read_failed(error: OSError, path: str) -> StoreUnreadable:
    """Return the error for a read that failed."""
    return StoreUnreadable(path, error.strerror or str(error))


def is_at(fd: int, path: str) -> bool:
    """Return whether a path is that of an open file."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False))
    except OSError:
        return False


def lock_alone(path: str) -> int | None:
    """Return a descriptor, to be closed, of a file that no active run has made, locked so that no run takes it.

    None if there is nothing to lock: no file, or no regular one.  Raises Busy.
    """
    for flags in (os.O_RDWR, os.O_RDONLY):  # NFS locks exclusively only what is open for writing
        try:
            fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            break
        except OSError:
            continue
    else:
        return None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            return None
        with contextlib.suppress(OSError):  # no locks here: then the set's lock could not be taken either
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Busy from None
        if not is_at(fd, path):
            raise Busy  # another run has just replaced it
    except BaseException:
        os.close(fd)
        raise
    return fd


def remove_dead(path: str) -> bool:
    """Remove a temporary file unless an active run writes it; return whether none does."""
    try:
        fd = lock_alone(path)
    except Busy:
        return False
    try:
        with contextlib.suppress(OSError):
            os.unlink(path)
    finally:
        if fd is not None:
            os.close(fd)
    return True


def in_folder(part: Part) -> "PartFile":
    """Return a new file as the one in a folder that it is; what asks for it works in folders only."""
    if not isinstance(part, PartFile):
        raise TypeError(f"{part!r} is not in a folder")
    return part


class PartFile:
    """A file that is being written under its temporary name."""

    def __init__(self, folder: str, name: str, run: str | None = None) -> None:
        """`run` as of names.run_name; without it, or if the name would be too long, all runs use the same name.

        Raises NoRoom or StoreFailed.
        """
        self.final_path = os.path.join(folder, name)
        self.path = self.final_path + names.PART
        if run is not None and len(os.fsencode(longer := names.part_name(name, run))) <= _NAME_MAX:
            self.path = os.path.join(folder, longer)
        self.size = 0  # bytes
        self._hash = hashlib.sha256()
        self._fd = self._held = -1  # to write to; to keep lock and inode until it is published
        self._made: os.stat_result | None = None  # the file as it was closed
        try:
            while not self._open():
                self.release()  # another run has swept it before it was locked
        except BaseException as error:
            self.discard()
            if isinstance(error, OSError):
                raise write_failed(error, self.path) from None
            raise

    def _create(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return os.open(self.path, flags, FILE_MODE)
        except FileExistsError:
            if not remove_dead(self.path):
                raise OSError(errno.EBUSY, "another run is writing it") from None
            return os.open(self.path, flags, FILE_MODE)

    def _open(self) -> bool:
        """Make the file and lock it; return whether it still exists then."""
        self._fd = self._create()
        if stat.S_IMODE(os.fstat(self._fd).st_mode) != FILE_MODE:
            with contextlib.suppress(OSError):  # no modes here; a umask can only have removed permissions
                os.fchmod(self._fd, FILE_MODE)
        try:
            self._held = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return False
        with contextlib.suppress(OSError):  # no locks here
            fcntl.flock(self._held, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return is_at(self._fd, self.path) and is_at(self._held, self.path)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append data.  Raises NoRoom or StoreFailed."""
        self._hash.update(data)
        self.size += len(data)
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError as error:
            raise write_failed(error, self.path) from None

    def date(self, mtime_ns: int) -> None:
        """Give the file this time, in ns since 1970; call it before `close`; never raises."""
        with contextlib.suppress(OSError):
            os.utime(self._fd, ns=(mtime_ns, mtime_ns))

    def fileno(self) -> int:
        """Return the descriptor, for a process that writes the file itself."""
        return self._fd

    def close(self) -> None:
        """Sync the file to the disk.  Raises NoRoom or StoreFailed."""
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        try:
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
            self._made = os.fstat(self._held)
        except OSError as error:
            raise write_failed(error, self.path) from None

    def take_over(self) -> None:
        """Sync, count and hash a file that another process has written and cannot write to any more.

        Raises NoRoom, StoreFailed or StoreUnreadable.
        """
        try:
            os.fsync(self._held)
            self._made = os.fstat(self._held)
        except OSError as error:
            raise write_failed(error, self.path) from None
        self._hash, self.size = hashlib.sha256(), 0
        try:
            while piece := os.pread(self._held, PIECE, self.size):
                self._hash.update(piece)
                self.size += len(piece)
        except OSError as error:
            raise read_failed(error, self.path) from None

    def forget(self) -> None:
        """Have the file read from the disk by whoever reads it next, as far as the system does that; never raises."""
        with contextlib.suppress(OSError):
            os.posix_fadvise(self._held, 0, 0, os.POSIX_FADV_DONTNEED)

    def is_on_disk(self) -> bool:
        """Read the closed file back, and return whether it is what was written.  Raises StoreUnreadable."""
        digest, place = hashlib.sha256(), 0
        try:
            while piece := os.pread(self._held, PIECE, place):
                digest.update(piece)
                place += len(piece)
        except OSError as error:
            raise read_failed(error, self.path) from None
        return (place, digest.hexdigest()) == (self.size, self.sha256())

    def is_there(self) -> bool:
        """Return whether the closed file still has its temporary name."""
        return is_at(self._held, self.path)

    def sha256(self) -> str:
        """Return the SHA-256 of what was written, in hex."""
        return self._hash.hexdigest()

    def stored(self) -> manifest.StoredFile:
        """Return the entry of this file for the manifest."""
        return manifest.StoredFile(self.size, self.sha256())

    def publish(self) -> None:
        """Give the file its own name, which must be free; call `close` before.

        Raises ForeignFiles if the name is taken, NoRoom or StoreFailed.
        """
        try:
            try:
                os.link(self.path, self.final_path)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                if os.path.lexists(self.final_path):
                    raise FileExistsError from None
                os.rename(self.path, self.final_path)
                return
            os.unlink(self.path)
        except FileExistsError:
            why = f"{self.final_path} was made by another run during this one"
            raise ForeignFiles(why, hint="nothing of this run was published; run again") from None
        except OSError as error:
            raise write_failed(error, self.final_path) from None

    def check(self) -> None:
        """A folder has what was synced there."""

    def replace(self) -> None:
        """Give the file its own name, replacing the file that had it; call `close` before.

        Raises NoRoom or StoreFailed.
        """
        try:
            os.rename(self.path, self.final_path)
        except OSError as error:
            raise write_failed(error, self.final_path) from None

    def has_its_name(self) -> bool:
        """Return whether the file with the final name is this one, unchanged since it was closed."""
        try:
            found = os.stat(self.final_path, follow_symlinks=False)
        except OSError:
            return False
        made = self._made
        return made is not None and (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns) == (
            made.st_dev, made.st_ino, made.st_size, made.st_mtime_ns,
        )  # fmt: skip

    def withdraw(self) -> bool:
        """Remove the final name if this file has it; return whether that was done or not needed."""
        try:
            if self.has_its_name():
                os.unlink(self.final_path)
        except OSError:
            return False
        return True

    def release(self) -> None:
        """Release the file: from now on another run may take it; never raises."""
        for fd in (self._fd, self._held):
            if fd >= 0:
                os.close(fd)
        self._fd = self._held = -1

    def discard(self) -> None:
        """Remove the temporary file if it is ours, and release it; never raises."""
        if self._fd >= 0 or self._held >= 0:
            with contextlib.suppress(OSError):
                if is_at(self._held if self._held >= 0 else self._fd, self.path):
                    os.unlink(self.path)
        self.release()
