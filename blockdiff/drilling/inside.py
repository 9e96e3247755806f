"""The part of a drill that runs inside its name spaces: mount the clone, start the server, ask it, stop it.

sandbox.py starts it.  It reads a request (JSON) from stdin and writes one event (JSON) in a line to
stdout for each step that ended.  When it ends, the kernel ends all processes and removes all mounts.
"""

import json
import os
import subprocess
import sys
import time

from blockdiff.drilling.server import Problem
from blockdiff.drilling.steps import Failed, Steps

_MOUNT_S = 60.0
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
    """Mount a tmpfs over a folder that exists, and in it the clone; return where that is."""
    _call(["mount", "-t", "tmpfs", "-o", _TMPFS, "blockdiff", base])
    folder, run = os.path.join(base, "clone"), os.path.join(base, "run")
    os.mkdir(folder)
    os.mkdir(run)
    # fakeroot: it asks for no permissions; the kernel's are those of the owner, who we are here
    with open(os.path.join(run, "fuse"), "w+b") as log:
        process = subprocess.Popen(
            ["fuse2fs", "-f", "-o", "fakeroot", image, folder], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        deadline = time.monotonic() + _MOUNT_S
        while not os.path.ismount(folder):
            if process.poll() is not None or time.monotonic() > deadline:
                log.seek(0)
                raise Problem(f"fuse2fs: {' '.join(log.read(2000).decode('utf-8', 'replace').split())}")
            time.sleep(0.01)
    return folder


def _call(words: list[str]) -> None:
    done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise Problem(" ".join(done.stderr.split()) or f"{words[0]} ended with exit code {done.returncode}")
