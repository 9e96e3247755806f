"""What uses a block device or a file, so that nothing in use is overwritten.

The kernel refuses an exclusive open of a device that is mounted or in use, but does not
name the user, and it does not refuse a file that is a loop device or swap.  Therefore
sysfs, /proc/self/mountinfo and /proc/swaps are read, also for the device's partitions.
A process that has a device or file open, such as a virtual machine its disk, is found by
its descriptors in /proc/PID/fd; only root sees those of other users' processes.
Also runs on the host of a target: stdlib only, Python 3.6.
"""

import os
import re
import stat
from typing import Callable, Iterator, List, Optional, Tuple

_ESCAPE = re.compile(r"\\([0-7]{3})")


def of_device(number: int, sys: str = "/sys", proc: str = "/proc") -> List[str]:
    """Return the users of a block device (st_rdev) or a partition of it, for a person; [] if none is found."""
    found = []
    for name, device in _with_partitions(number, sys):
        where = f"its partition {name}" if device != number else "it"
        folder = f"{_folder(device, sys)}/holders"
        for holder in _names(folder):
            title = _text(f"{folder}/{holder}/dm/name").strip()
            what = f"device mapper ({title})" if title else f"device {holder}"
            found.append(f"{where} is used by {what}")
        found += [f"{where} is mounted on {path}" for path in _mounts(device, proc)]
        found += [f"{where} is swap" for path in _swaps(proc) if _rdev(path) == device]
        found += [f"{where} is behind {loop}" for loop, path in _loops(sys) if _rdev(path) == device]
    return found


def of_file(path: str, sys: str = "/sys", proc: str = "/proc") -> List[str]:
    """Return what uses a regular file as a device or as swap, for a person; [] if none is found."""
    found = [f"it is behind {loop}" for loop, back in _loops(sys) if _same(path, back)]
    found += ["it is swap" for swap in _swaps(proc) if _same(path, swap)]
    return found


def openers_of_device(number: int, sys: str = "/sys", proc: str = "/proc") -> List[str]:
    """Return which processes have a block device (st_rdev), a partition of it or its whole disk open."""
    family = {device: f"its partition {name}" for name, device in _with_partitions(number, sys)}
    family[number] = "it"
    disk = _disk(number, sys)
    if disk is not None:
        family[disk[1]] = f"its disk {disk[0]}"
    return _openers(lambda found: family.get(found.st_rdev) if stat.S_ISBLK(found.st_mode) else None, proc)


def openers_of_file(wanted: os.stat_result, proc: str = "/proc") -> List[str]:
    """Return which processes have a file open."""
    return _openers(lambda found: "it" if os.path.samestat(found, wanted) else None, proc)


def _openers(match: Callable[[os.stat_result], Optional[str]], proc: str) -> List[str]:
    found: dict[str, None] = {}
    for pid in sorted(int(name) for name in _names(proc) if name.isdigit()):
        for fd in _names(f"{proc}/{pid}/fd"):
            try:
                what = match(os.stat(f"{proc}/{pid}/fd/{fd}"))
            except OSError:  # closed meanwhile
                continue
            if what is not None and pid == os.getpid():
                found[f"this program was started with {what} open"] = None
            elif what is not None:
                name = "".join(c if c.isprintable() else "?" for c in _text(f"{proc}/{pid}/comm").strip())
                found[f"process {pid} ({name}) has {what} open"] = None
    return list(found)


def _disk(number: int, sys: str) -> Optional[Tuple[str, int]]:
    """Return the name and number of the disk that a device is a partition of."""
    folder = os.path.realpath(_folder(number, sys))
    if not os.path.exists(f"{folder}/partition"):
        return None
    above = os.path.dirname(folder)
    device = _number(above)
    return None if device is None else (os.path.basename(above), device)


def _number(folder: str) -> Optional[int]:
    """Return the number of the device that a folder of sysfs describes."""
    major, colon, minor = _text(f"{folder}/dev").strip().partition(":")
    return os.makedev(int(major), int(minor)) if colon and major.isdigit() and minor.isdigit() else None


def _folder(number: int, sys: str) -> str:
    return f"{sys}/dev/block/{os.major(number)}:{os.minor(number)}"


def _with_partitions(number: int, sys: str) -> Iterator[Tuple[str, int]]:
    yield "", number
    folder = _folder(number, sys)
    for name in _names(folder):
        if os.path.exists(f"{folder}/{name}/partition"):
            device = _number(f"{folder}/{name}")
            if device is not None:
                yield name, device


def _mounts(number: int, proc: str) -> Iterator[str]:
    wanted = f"{os.major(number)}:{os.minor(number)}"
    for line in _text(f"{proc}/self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        fields, source = left.split(" "), right.split(" ")
        if len(fields) < 5 or len(source) < 2:
            continue
        # some file systems (btrfs) have a number of their own; then the source is compared
        if fields[2] == wanted or (source[1].startswith("/dev/") and _rdev(_plain(source[1])) == number):
            yield _plain(fields[4])


def _swaps(proc: str) -> Iterator[str]:
    for line in _text(f"{proc}/swaps").splitlines()[1:]:
        if line.startswith("/"):
            yield _plain(line.split()[0])


def _loops(sys: str) -> Iterator[Tuple[str, str]]:
    for name in _names(f"{sys}/block"):
        if name.startswith("loop"):
            back = _text(f"{sys}/block/{name}/loop/backing_file").rstrip("\n")
            if back:
                yield f"/dev/{name}", back


def _same(path: str, other: str) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False


def _rdev(path: str) -> Optional[int]:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_rdev if stat.S_ISBLK(found.st_mode) else None


def _plain(text: str) -> str:
    """Return text with the octal escapes that the kernel writes for spaces and such undone."""
    raw = _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)
    return raw.encode("latin-1", "ignore").decode("utf-8", "surrogateescape") if raw != text else text


def _names(folder: str) -> List[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


def is_blind(proc: str = "/proc") -> bool:
    """Return whether there are processes of which this user cannot see what they have open."""
    for name in _names(proc):
        if name.isdigit():
            try:
                os.listdir(f"{proc}/{name}/fd")
            except PermissionError:
                return True
            except OSError:  # ended meanwhile
                continue
    return False
