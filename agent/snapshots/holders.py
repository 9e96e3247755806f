"""What uses a block device: why a device is busy."""

import os
import stat

_MOST = 5  # holders that are named


def holders(device):
    """Return what uses a block device as text, such as "process 77 (dd)"; "" if nothing is seen."""
    try:
        number = os.stat(device).st_rdev
    except OSError:
        return ""
    found = _stacked(number) + _processes(number)
    return ", ".join(found[:_MOST])


def _stacked(number):
    """Return devices that are built on it, such as another device-mapper device."""
    folder = "/sys/dev/block/%d:%d/holders" % (os.major(number), os.minor(number))
    found = []
    for name in _names(folder):
        title = _text("%s/%s/dm/name" % (folder, name))
        found.append("device %s" % (title or name))
    return found


def _processes(number):
    """Return mounts of it in any process's name space, and processes that have it open."""
    wanted = "%d:%d" % (os.major(number), os.minor(number))
    found = []
    for pid in filter(str.isdigit, _names("/proc")):
        for line in _text("/proc/%s/mountinfo" % pid).splitlines():
            fields = line.split(" ")
            mounted = "mount on %s" % fields[4] if len(fields) > 4 and fields[2] == wanted else None
            if mounted and mounted not in found:
                found.append(mounted)
        for descriptor in _names("/proc/%s/fd" % pid):
            path = "/proc/%s/fd/%s" % (pid, descriptor)
            try:
                if not os.readlink(path).startswith("/dev/"):
                    continue  # a stat of anything else might hang on a dead network file system
                opened = os.stat(path)
            except OSError:
                continue
            if stat.S_ISBLK(opened.st_mode) and opened.st_rdev == number:
                found.append("process %s (%s)" % (pid, _text("/proc/%s/comm" % pid)))
                break
    return found


def _names(folder):
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _text(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""
