"""The first process of a guest: looks at the disk, mounts what is asked for, and sends what is in it.

Whatever happens, the guest ends with it.  Its root is the machine's own /, read-only; the only place to
write to is the kernel's /dev, in memory.
"""

import ctypes
import json
import os
import termios
import traceback
import tty
from collections.abc import Callable
from typing import Any

from blockdiff.guest import messages
from blockdiff.guest.devices import Disk, Failed, mount
from blockdiff.guest.tree import Tree

WIRE = "/dev/ttyS0"
ROOM = "/dev/look"  # what we write is here
_POWER_OFF = 0x4321FEDC  # reboot(2)


class Wire:
    """The way out."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self._fd)

    def send(self, message: bytes) -> None:
        """Send one message."""
        view = memoryview(message)
        while view:
            view = view[os.write(self._fd, view) :]

    def tell(self, **value: Any) -> None:
        """Send one JSON object."""
        self.send(messages.pack_json(value))

    def drain(self) -> None:
        """Return when all of it has left the guest."""
        termios.tcdrain(self._fd)


def main(request: str) -> None:
    """Do what is asked for, then switch the guest off; `request`: JSON of machine.py."""
    run(request, _work)


def run(request: str, work: Callable[[dict[str, Any], Wire], object]) -> None:
    """Do some work, then switch the guest off; `request`: JSON of machine.py."""
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        mount("proc", "/proc", "proc")
        mount("sys", "/sys", "sysfs")
        wire = Wire(WIRE)
        try:
            work(json.loads(request), wire)
        except Failed as error:
            wire.tell(kind="failed", why=error.why, text=error.text)
        except BaseException:
            wire.tell(kind="failed", why="guest", text=traceback.format_exc()[-4000:])
        wire.drain()
    finally:
        libc.reboot(_POWER_OFF)


def _work(request: dict[str, Any], wire: Wire) -> None:
    os.makedirs(ROOM)
    disk = Disk(ROOM, request["programs"], as_is=request["as_is"])
    disk.open()
    if request["mode"] == "map":
        wire.tell(kind="map", parts=disk.describe())
    else:
        volume = disk.choose(request["part"], request["lv"])
        clean = disk.mount(volume, ROOM)
        wire.tell(kind="mounted", place=volume.place, type=volume.type, clean=clean)
        # links in the image lead to places in the image from here on
        os.chroot(os.path.join(ROOM, "root"))
        os.chdir("/")
        tree = Tree(wire.send, wire.tell)
        for number, path in enumerate(request["paths"]):
            tree.send(number, path, listing=request["mode"] == "list")
    wire.tell(kind="end")
