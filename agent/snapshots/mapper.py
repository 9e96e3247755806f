"""Device mapper's view of a device, by sysfs and dmsetup.

It costs a quarter of a report of LVM's, which also scans all devices and locks the volume group.
"""

import os

from .runner import ProgramFailed


def folder(path):
    """Return the folder in sysfs of a device's path.  Raises OSError."""
    number = os.stat(path).st_rdev
    return "/sys/dev/block/%d:%d" % (os.major(number), os.minor(number))


def name(device):
    """Return device mapper's name for a folder in sysfs.  Raises OSError."""
    return _read(device, "dm/name")


def of_lvm(device, uuid):
    """Return whether a folder in sysfs is of the logical volume with that UUID, as LVM writes it.  Raises OSError."""
    return _read(device, "dm/uuid")[36:] == uuid.replace("-", "")  # after "LVM-" and the 32 letters of the group's


def below(device, suffix):
    """Return the folder of the one device below whose UUID of LVM's ends so.  Raises OSError or ValueError."""
    devices = [os.path.join(device, "slaves", each) for each in os.listdir(os.path.join(device, "slaves"))]
    (found,) = [each for each in devices if _read(each, "dm/uuid").endswith(suffix)]
    return found


def _read(device, file):
    with open(os.path.join(device, file)) as opened:
        return opened.read().strip()


def line(run, do, device, target):
    """Return the words of the only line of a device's table or status.  Raises ProgramFailed."""
    lines = [text.split() for text in run("dmsetup", do, device).splitlines() if text.strip()]
    if len(lines) != 1 or lines[0][2:3] != [target]:
        raise ProgramFailed("dmsetup", 0, "%s is no device of the kind %s" % (device, target))
    return lines[0]


def percent(fraction):
    """Return the percentage of a fraction such as 3/8 in a status.  Raises ValueError."""
    used, _, total = fraction.partition("/")
    return 100.0 * int(used) / max(1, int(total))


def healthy(status):
    """Return whether the words of a thin pool's status are those of one that is in order."""
    return "rw" in status[7:] and "needs_check" not in status
