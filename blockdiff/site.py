"""What stands at the path that a restore is to write to, and whether it may be written.

A device that somebody uses, a file with something in it, or one of the set's own files
is refused; the refusal names the size and what lies there.
"""

import contextlib
import fcntl
import os
import stat
import struct
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from blockdiff import holders
from blockdiff.errors import TargetRefused

NEW, FILE, DEVICE = "new file", "file", "block device"
_BLKGETSIZE64 = 0x80081272

Program = Callable[[Sequence[str]], str]


def output_of(words: Sequence[str]) -> str:
    """Run a program and return what it says on stdout; "" where it is missing or fails."""
    try:
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else ""


@dataclass(frozen=True)
class Look:
    """What stands at a target's path, before anything is written."""

    path: str
    kind: str  # NEW, FILE or DEVICE
    size: int = 0  # bytes
    holds: str = ""  # what lies on it, as blkid tells
    reasons: tuple[str, ...] = ()  # why it must not be written without force
    used: tuple[str, ...] = ()  # those of them that say that somebody uses it

    @property
    def description(self) -> str:
        """What it is, for a person."""
        text = self.kind if self.kind == NEW else f"{self.kind} of {self.size} bytes"
        return f"{text} with {self.holds} on it" if self.holds else text


def look(path: str, own: Iterable[str] = (), run: Program = output_of) -> Look:
    """Return what stands at path; `own` are files that are being read.  `run` runs blkid.

    Raises TargetRefused for what can never be a target.
    """
    try:
        found = os.stat(path)
    except FileNotFoundError:
        if os.path.islink(path):
            raise TargetRefused(path, "it is a symbolic link that leads nowhere") from None
        folder = os.path.dirname(path) or "."
        if not os.path.isdir(folder) or not os.path.basename(path):
            raise TargetRefused(path, f"there is no folder {folder}") from None
        return Look(path, NEW)
    except OSError as error:
        raise TargetRefused(path, error.strerror) from None
    if stat.S_ISBLK(found.st_mode):
        used = tuple(holders.of_device(found.st_rdev))
        return Look(path, DEVICE, _device_size(path), _content(path, run), used, used)
    if not stat.S_ISREG(found.st_mode):
        raise TargetRefused(path, "it is neither a file nor a block device")
    for other in own:
        with contextlib.suppress(OSError):
            if os.path.samefile(path, other):
                raise TargetRefused(path, "it is a file of the set that is to be restored")
    used = tuple(holders.of_file(path))
    if not found.st_size:
        return Look(path, FILE, 0, "", used, used)
    holds = _content(path, run)
    what = f"it is a file of {found.st_size} bytes" + (f" with {holds} on it" if holds else "")
    return Look(path, FILE, found.st_size, holds, (what, *used), used)


def _device_size(path: str) -> int:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return int(struct.unpack("Q", fcntl.ioctl(fd, _BLKGETSIZE64, bytes(8)))[0])
        finally:
            os.close(fd)
    except OSError as error:
        raise TargetRefused(path, error.strerror) from None


def _content(path: str, run: Program) -> str:
    """Return what blkid finds on a device or file, such as "ext4 (label root)"; "" if nothing."""
    facts = {}
    for line in run(["blkid", "-p", "-o", "export", "--", path]).splitlines():
        name, _, value = line.partition("=")
        facts[name] = value
    kind = facts.get("TYPE") or (facts["PTTYPE"] + " partition table" if "PTTYPE" in facts else "")
    return f"{kind} (label {facts['LABEL']})" if kind and "LABEL" in facts else kind


def check(seen: Look, least: int, force: bool = False) -> None:
    """Raise TargetRefused if a volume of `least` bytes or more must not be written there."""
    if seen.reasons and not force:
        raise TargetRefused(seen.path, "; ".join(seen.reasons), hint="--force writes over it all the same")
    if seen.kind == DEVICE and seen.size < least:
        raise TargetRefused(seen.path, f"it is too small: it has {seen.size} bytes, the volume {least}")
