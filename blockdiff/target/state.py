"""The state of a restore's target before it is written: what it is, what is on it, what uses it.

Also runs on the host of a target: stdlib only, Python 3.6.
"""

import errno
import fcntl
import os
import stat
import struct
import time
from typing import Callable, NamedTuple, Tuple

from blockdiff.errors import TargetRefused
from blockdiff.target import inuse, signatures

NEW, FILE, DEVICE = "new file", "file", "block device"
BUSY = "device is busy; holder unknown"
_BLKGETSIZE64 = 0x80081272
_LOOKS, _BETWEEN_S = 3, 0.15  # checks, seconds between: udev briefly opens new and written devices


class TargetState(NamedTuple):
    """What is at a target's path before anything is written."""

    path: str
    kind: str  # NEW, FILE or DEVICE
    size: int = 0  # bytes
    content: str = ""  # signatures on it, such as "ext4 (label root)"
    used: Tuple[str, ...] = ()  # its users; if there is one, the target is refused

    @property
    def description(self) -> str:
        """What it is, for a person."""
        text = self.kind if self.kind == NEW else f"{self.kind} of {self.size} bytes"
        return f"{text} with {self.content} on it" if self.content else text


def look(
    path: str,
    run: signatures.Program = signatures.run_program,
    pause: Callable[[float], object] = time.sleep,
) -> TargetState:
    """Return the state of path.

    `run` runs blkid; `pause` sleeps, in seconds, while something uses the target briefly.
    Raises TargetRefused for what can never be a target.
    """
    try:
        found = os.stat(path)
    except FileNotFoundError:
        if os.path.islink(path):
            raise TargetRefused(path, "it is a symbolic link to a path that does not exist") from None
        folder = os.path.dirname(path) or "."
        if not os.path.isdir(folder) or not os.path.basename(path):
            raise TargetRefused(path, f"there is no folder {folder}") from None
        return TargetState(path, NEW)
    except OSError as error:
        raise TargetRefused(path, error.strerror) from None
    except ValueError as error:  # a name that no file can have
        raise TargetRefused(path, error) from None
    if not stat.S_ISBLK(found.st_mode) and not stat.S_ISREG(found.st_mode):
        raise TargetRefused(path, "it is neither a file nor a block device")
    used = _users(path, found)
    for _ in range(_LOOKS - 1):
        if not used:
            break
        pause(_BETWEEN_S)
        used = _users(path, found)
    if stat.S_ISBLK(found.st_mode):
        return TargetState(path, DEVICE, _device_size(path), signatures.signature(path, run), used)
    content = signatures.signature(path, run) if found.st_size else ""
    return TargetState(path, FILE, found.st_size, content, used)


def _users(path: str, found: os.stat_result) -> Tuple[str, ...]:
    """Return the users of a device or file."""
    if not stat.S_ISBLK(found.st_mode):
        return (*inuse.of_file(path), *inuse.openers_of_file(found))
    used = (*inuse.of_device(found.st_rdev), *inuse.openers_of_device(found.st_rdev))
    return used or ((BUSY,) if _is_busy(path) else ())


def _is_busy(path: str) -> bool:
    """Return whether the kernel refuses an exclusive open, as it does for a mount in another container."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        return error.errno == errno.EBUSY
    return False


def _device_size(path: str) -> int:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return int(struct.unpack("Q", fcntl.ioctl(fd, _BLKGETSIZE64, bytes(8)))[0])
        finally:
            os.close(fd)
    except OSError as error:
        raise TargetRefused(path, error.strerror) from None
