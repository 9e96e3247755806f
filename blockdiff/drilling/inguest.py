"""The first process of the guest in which a drill runs: mounts the file system that is meant, and uses it."""

import contextlib
import os
import sys
from typing import Any

from blockdiff.drilling.steps import Failed, Steps
from blockdiff.guest import inside
from blockdiff.guest.devices import Disk
from blockdiff.guest.inside import ROOM, Wire

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def main(request: str) -> None:
    """Do what is asked for, then switch the guest off."""
    inside.run(request, _work)


def _work(request: dict[str, Any], wire: Wire) -> None:
    sys.path += request["paths"]
    os.environ["PATH"] = _PATH
    os.makedirs(ROOM)
    steps = Steps(lambda value: wire.tell(kind="step", **value))
    disk = Disk(ROOM, request["programs"], as_is=False)
    disk.open()
    with contextlib.suppress(Failed):
        with steps.step("mount") as said:
            volume = disk.choose(request["part"], request["lv"])
            disk.mount(volume, ROOM, writable=True)
            said[0] = f"{volume.type} in {volume.place}, by a kernel in user mode, without a network"
        folder, room = os.path.join(ROOM, "root"), os.path.join(ROOM, "run")
        os.mkdir(room)
        owner = None
        if request["server"]:
            with contextlib.suppress(OSError):  # that there is no such folder is told by its step
                found = os.stat(os.path.join(folder, request["path"].strip("/")))
                owner = (found.st_uid, found.st_gid)
        steps.use(request, folder, room, owner)
    wire.tell(kind="end")
