"""What uses a block device: why a device is busy."""

import os
import stat

from .. import users

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
    for name in users.names(folder):
        title = users.content("%s/%s/dm/name" % (folder, name)).strip()
        found.append("device %s" % (title or name))
    return found


def _processes(number):
    """Return mounts of it in any process's name space, and processes that have it open."""
    wanted = "%d:%d" % (os.major(number), os.minor(number))
    found = []
    for pid in filter(str.isdigit, users.names("/proc")):
        process = "/proc/%s" % pid
        for line in users.content(process + "/mountinfo").splitlines():
            fields = line.split(" ")
            mounted = "mount on %s" % fields[4] if len(fields) > 4 and fields[2] == wanted else None
            if mounted and mounted not in found:
                found.append(mounted)
        if any(stat.S_ISBLK(opened.st_mode) and opened.st_rdev == number for _, opened in users.open_files(process)):
            found.append("process %s (%s)" % (pid, users.content(process + "/comm").strip()))
    return found
