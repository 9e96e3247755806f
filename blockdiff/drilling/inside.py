"""The part of a drill that runs inside its name spaces: mount the clone, start the server, ask it, stop it.

sandbox.py starts it.  It reads a request (JSON) from stdin and writes one event (JSON) in a line to
stdout for each step that ended.  When it ends, the kernel ends all processes and removes all mounts.
"""

import ctypes
import json
import os
import struct
import subprocess
import sys
import time

from blockdiff.drilling.server import Problem
from blockdiff.drilling.steps import Failed, Steps

_MOUNT_S = 60.0
_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE, _READ_ONLY = 442, -100, 0x8000, 1  # the same on all architectures
_TMPFS = "size=256m,mode=0700"


def main() -> None:
    """Run all steps of a request, until one fails."""
    request = json.load(sys.stdin)
    steps = Steps(lambda value: print(json.dumps(value), flush=True))
    try:
        with steps.step("mount") as said:
            folder = _mount(request["image"], request["base"])
            said[0] = "in name spaces of its own, without a network"
        steps.use(request, folder, os.path.join(request["base"], "run"))
    except Failed:
        sys.exit(1)


def _mount(image: str, base: str) -> str:
    """Mount a tmpfs over a folder that exists, and in it the clone; return where that is.

    Nothing else can be written from then on: a link on the clone may lead to a file of this machine.
    """
    _call(["mount", "-t", "tmpfs", "-o", _TMPFS, "blockdiff", base])
    folder, run, disk = (os.path.join(base, name) for name in ("clone", "run", "disk"))
    os.mkdir(folder)
    os.mkdir(run)
    with open(disk, "xb"):
        _call(["mount", "--bind", image, disk])
    _set_attributes("/", on=_READ_ONLY)
    _set_attributes(base, off=_READ_ONLY)
    # fakeroot: it asks for no permissions; the kernel's are those of the owner, who we are here
    with open(os.path.join(run, "fuse"), "w+b") as log:
        process = subprocess.Popen(
            ["fuse2fs", "-f", "-o", "fakeroot", disk, folder], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        deadline = time.monotonic() + _MOUNT_S
        while not os.path.ismount(folder):
            if process.poll() is not None or time.monotonic() > deadline:
                log.seek(0)
                raise Problem(f"fuse2fs: {' '.join(log.read(2000).decode('utf-8', 'replace').split())}")
            time.sleep(0.01)
    return folder


def _set_attributes(path: str, on: int = 0, off: int = 0) -> None:
    """Call mount_setattr(2), which Linux has since 5.12, for a mount and all below it.  Raises OSError."""
    attributes = struct.pack("=QQQQ", on, off, 0, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(_MOUNT_SETATTR, _AT_FDCWD, path.encode(), _AT_RECURSIVE, attributes, len(attributes)):
        raise OSError(ctypes.get_errno(), f"mount_setattr: {os.strerror(ctypes.get_errno())}", path)


def _call(words: list[str]) -> None:
    done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise Problem(" ".join(done.stderr.split()) or f"{words[0]} ended with exit code {done.returncode}")
