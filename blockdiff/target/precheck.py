"""The state of a restore's target before it is written, and whether it may be written.

A device or file in use and a name of a set's files are always refused.  A file that is not
empty and a device with a signature are refused unless forced.
"""

import contextlib
import errno
import fcntl
import os
import stat
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from blockdiff.errors import TargetRefused
from blockdiff.formats import names
from blockdiff.target import inuse, signatures

NEW, FILE, DEVICE = "new file", "file", "block device"
BUSY = "device is busy; holder unknown"
_BLKGETSIZE64 = 0x80081272
_LOOKS, _BETWEEN_S = 3, 0.15  # checks, seconds between: udev briefly opens new and written devices


@dataclass(frozen=True)
class TargetState:
    """What is at a target's path before anything is written."""

    path: str
    kind: str  # NEW, FILE or DEVICE
    size: int = 0  # bytes
    content: str = ""  # signatures on it, such as "ext4 (label root)"
    used: tuple[str, ...] = ()  # its users; if there is one, the target is refused

    @property
    def description(self) -> str:
        """What it is, for a person."""
        text = self.kind if self.kind == NEW else f"{self.kind} of {self.size} bytes"
        return f"{text} with {self.content} on it" if self.content else text


def look(
    path: str,
    own: tuple[str, str] | None = None,
    run: signatures.Program = signatures.run_program,
    pause: Callable[[float], object] = time.sleep,
) -> TargetState:
    """Return the state of path; `own` is the set that is restored: its folder and its name there.

    `run` runs blkid; `pause` sleeps, in seconds, while something uses the target briefly.
    Raises TargetRefused for what can never be a target.
    """
    _refuse_set_files(path, own)
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


def _users(path: str, found: os.stat_result) -> tuple[str, ...]:
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


def _refuse_set_files(path: str, own: tuple[str, str] | None) -> None:
    """Raise TargetRefused if path is, or would be, a file of a set, by whatever path or link."""
    places = {(os.path.realpath(os.path.dirname(path) or "."), os.path.basename(path))}
    places.add(os.path.split(os.path.realpath(path)))
    for folder, name in places:
        base = _set_with(name, folder, own)
        if base is not None:
            hint = "that set's next backup would take it for one of its own; choose another name or folder"
            raise TargetRefused(path, f"its name is one of the set {os.path.join(folder, base)}", hint=hint)
    with contextlib.suppress(OSError):
        found = os.stat(path)
        for folder in {folder for folder, _ in places}:
            with os.scandir(folder) as entries:
                same = [entry.name for entry in entries if entry.inode() == found.st_ino]
            _refuse_same(path, found, folder, [name for name in same if _set_with(name, folder, None)])
        if own is not None:  # its files may be symbolic links themselves
            _refuse_same(path, found, own[0], [name for name in os.listdir(own[0]) if names.owner(name, own[1:])])


def _refuse_same(path: str, found: os.stat_result, folder: str, names: list[str]) -> None:
    for name in names:
        other = os.path.join(folder, name)
        if os.path.samestat(os.stat(other), found):
            raise TargetRefused(path, f"it is {other}, a file of a set")


def _set_with(name: str, folder: str, own: tuple[str, str] | None) -> str | None:
    """Return which set in a folder has, or would have, a file of this name."""
    with contextlib.suppress(OSError):
        bases = names.set_names(os.listdir(folder))
        if own is not None and os.path.samefile(folder, own[0]):
            bases.append(own[1])
        return names.owner(name, bases)
    return None


def _device_size(path: str) -> int:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return int(struct.unpack("Q", fcntl.ioctl(fd, _BLKGETSIZE64, bytes(8)))[0])
        finally:
            os.close(fd)
    except OSError as error:
        raise TargetRefused(path, error.strerror) from None


def check(seen: TargetState, least: int, force: bool = False, patch: bool = False) -> None:
    """Raise TargetRefused if a volume of `least` bytes or more must not be written there.

    `force` accepts content, never a user.  `patch`: content is expected.
    """
    there = ""
    if not patch and (seen.content or (seen.kind == FILE and seen.size)):
        there = f"it is a {seen.description}"
    if seen.used:
        hint = "--force does not write over a target in use"
        raise TargetRefused(seen.path, "; ".join((*seen.used, *([there] if there else []))), hint=hint)
    if there and not force:
        raise TargetRefused(seen.path, there, hint="--force writes over it")
    if seen.kind == DEVICE and seen.size < least:
        raise TargetRefused(seen.path, f"it is too small: it has {seen.size} bytes, the volume {least}")
