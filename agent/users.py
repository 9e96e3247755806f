"""Who may write to a volume while it is read without a snapshot.

A device or file is checked with all that is built on it, such as partitions, logical volumes
and loop devices.  It is in use if one of them is mounted and not read-only, is swap, or is open
for writing.  Only what the agent's account may see is found.
"""

import os
import re
import stat

_MOST = 5  # users that are named
_ESCAPE = re.compile(r"\\([0-7]{3})")


def of(path):
    """Return what may write to a block device or file (path in bytes), as text; None if nothing is found."""
    try:
        volume = os.stat(path)
    except OSError:
        return None
    devices = {}  # number -> its name, None for the volume itself
    if stat.S_ISBLK(volume.st_mode):
        _pile(volume.st_rdev, None, devices)
    else:
        _loops(volume, devices)
    found = list(_swaps(volume, devices))
    for text in _processes(volume, os.path.basename(os.path.realpath(path)), devices):
        if text not in found:
            found.append(text)
    more = len(found) - _MOST
    return ", ".join(found[:_MOST] + (["and %d more" % more] if more > 0 else [])) or None


def _pile(number, name, devices):
    """Add a device and all that is built on it to `devices`."""
    if number in devices:
        return
    devices[number] = name
    folder = "/sys/dev/block/%d:%d" % (os.major(number), os.minor(number))
    for part in names(folder):
        if os.path.exists("%s/%s/partition" % (folder, part)):
            _pile_named("%s/%s" % (folder, part), part, devices)
    for holder in names(folder + "/holders"):
        place = "%s/holders/%s" % (folder, holder)
        _pile_named(place, content(place + "/dm/name").strip() or holder, devices)
    for loop, backing in _backing():
        if stat.S_ISBLK(backing.st_mode) and backing.st_rdev == number:
            _pile_named("/sys/block/%s" % loop, loop, devices)


def _pile_named(folder, name, devices):
    major, _, minor = content(folder + "/dev").strip().partition(":")
    if major.isdigit() and minor.isdigit():
        _pile(os.makedev(int(major), int(minor)), name, devices)


def _loops(volume, devices):
    """Add the loop devices of a file, and what is built on them, to `devices`."""
    for loop, backing in _backing():
        if os.path.samestat(backing, volume):
            _pile_named("/sys/block/%s" % loop, loop, devices)


def _backing():
    """Yield (name, stat of the backing file) of every writable loop device."""
    for name in names("/sys/block"):
        if name.startswith("loop") and content("/sys/block/%s/ro" % name).strip() == "0":
            path = content("/sys/block/%s/loop/backing_file" % name).rstrip("\n")
            try:
                yield name, os.stat(path)
            except (OSError, ValueError):
                continue


def _swaps(volume, devices):
    for line in content("/proc/swaps").splitlines()[1:]:
        try:
            swap = os.stat(_plain(line.split()[0]))
        except (OSError, IndexError):
            continue
        if os.path.samestat(swap, volume):
            yield "it is swap"
        elif stat.S_ISBLK(swap.st_mode) and swap.st_rdev in devices:
            yield "%s swap" % _is(devices[swap.st_rdev])


def _processes(volume, base, devices):
    """Yield mounts in any name space, and processes that have it open for writing."""
    spaces = set()
    for pid in ["self"] + [name for name in names("/proc") if name.isdigit()]:
        folder = "/proc/%s" % pid
        try:
            space = os.readlink(folder + "/ns/mnt")
        except OSError:
            space = None
        if devices and space is not None and space not in spaces:
            spaces.add(space)
            for text in _mounts(folder + "/mountinfo", devices):
                yield text
        if pid == "self":
            continue
        for descriptor, opened in open_files(folder, base):
            if stat.S_ISBLK(opened.st_mode):
                if opened.st_rdev not in devices:
                    continue
                name = devices[opened.st_rdev]
            elif os.path.samestat(opened, volume):
                name = None
            else:
                continue
            if _writes("%s/fdinfo/%s" % (folder, descriptor)):
                yield "%s open for writing by process %s (%s)" % (_is(name), pid, content(folder + "/comm").strip())


def _writes(path):
    """Return whether a descriptor can write, by its fdinfo."""
    for line in content(path).splitlines():
        if line.startswith("flags:"):
            return int(line.split()[1], 8) & os.O_ACCMODE != os.O_RDONLY
    return False


def _mounts(path, devices):
    for line in content(path).splitlines():
        left, _, right = line.partition(" - ")
        fields, source = left.split(" "), right.split(" ")
        if len(fields) < 5 or len(source) < 3 or "ro" in source[2].split(","):
            continue
        major, _, minor = fields[2].partition(":")
        number = os.makedev(int(major), int(minor))
        # some file systems (btrfs) show a number of their own; then the source is looked up
        if number not in devices and source[1].startswith("/dev/"):
            try:
                number = os.stat(_plain(source[1])).st_rdev
            except (OSError, ValueError):
                continue
        if number in devices:
            yield "%s mounted on %s" % (_is(devices[number]), _plain(fields[4]))


def _is(name):
    return "it is" if name is None else "%s on it is" % name


def _plain(text):
    """Return text with the octal escapes that the kernel writes for spaces and such undone."""
    raw = _ESCAPE.sub(lambda match: chr(int(match.group(1), 8)), text)
    return raw.encode("latin-1", "ignore").decode("utf-8", "surrogateescape") if raw != text else text


def open_files(process, base=None):
    """Yield (descriptor, stat) of devices, and of files named `base`, that a process (a folder in /proc) has open."""
    for descriptor in names(process + "/fd"):
        link = "%s/fd/%s" % (process, descriptor)
        try:
            path = os.fsencode(os.readlink(link))
            # a stat of anything else might hang on a dead network file system
            if not path.startswith(b"/dev/") and not (path.startswith(b"/") and os.path.basename(path) == base):
                continue
            opened = os.stat(link)
        except OSError:
            continue
        yield descriptor, opened


def names(folder):
    """Return the sorted names in a folder (text); none if it cannot be read."""
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def content(path):
    """Return the content of a file of the kernel's; "" if it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
