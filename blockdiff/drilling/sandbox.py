"""Name spaces for a drill: no network, mounts and processes of its own, the user that the data belongs to.

All of it ends with its first process, and that with ours: the kernel sees to it, whatever happens to us.
"""

import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import blockdiff
from blockdiff.errors import DrillFailed, NotAllowedHere, ProgramUnfit

_PACKAGES = {"setpriv": "util-linux", "unshare": "util-linux", "mount": "mount", "fuse2fs": "fuse2fs"}
_BASES = ("/mnt", "/media", "/srv", "/opt")  # one is covered by a tmpfs, inside only
_INSIDE = "import sys; sys.path[:] = sys.argv[1:]; from blockdiff.drilling import inside; inside.main()"
_MOST = 1 << 20  # bytes of an event
_FORBIDDEN = "sysctl user.max_user_namespaces and kernel.unprivileged_userns_clone allow name spaces"


def _words(uid: int, gid: int) -> list[str]:
    """Return the begin of a command that runs in new name spaces, and ends with us."""
    return [
        "setpriv", "--pdeathsig", "KILL",
        "unshare", "--user", f"--map-user={uid}", f"--map-group={gid}", "--keep-caps",
        "--mount", "--net", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc",
    ]  # fmt: skip


def require() -> None:
    """Raise ProgramUnfit or NotAllowedHere unless a drill can run on this machine."""
    for program, package in _PACKAGES.items():
        if shutil.which(program) is None:
            raise ProgramUnfit(program, "it is not installed", hint=f"apt install {package}")
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        hint = "modprobe fuse; udev gives it mode 0666"
        raise NotAllowedHere("/dev/fuse", error.strerror, hint=hint) from None
    words = [*_words(1, 1), "true"]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotAllowedHere("a user name space", " ".join(done.stderr.split()), hint=_FORBIDDEN)


def run(request: Mapping[str, Any], uid: int, gid: int, limit_s: float) -> Iterator[dict[str, Any]]:
    """Run the steps of a request inside, and yield what each said; see inside.py.

    Raises DrillFailed if they take longer than `limit_s`, or end without a word.
    """
    root = os.path.dirname(os.path.dirname(os.path.abspath(blockdiff.__file__)))
    python = os.readlink("/proc/self/exe")  # the links to it may be readable for us, but not inside
    taken = (os.path.realpath(request["image"]), root, python, os.path.realpath(sys.prefix))
    base = next((each for each in _BASES if os.path.isdir(each) and not _covers(each, taken)), None)
    if base is None:
        raise NotAllowedHere(f"a tmpfs over one of {', '.join(_BASES)}", "the clone or this program is below it")
    deadline = time.monotonic() + limit_s
    process = subprocess.Popen(
        [*_words(uid, gid), python, "-B", "-c", _INSIDE, root, *sys.path[1:]],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/",
    )  # fmt: skip
    try:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        process.stdin.write(json.dumps({**request, "base": base}).encode())
        process.stdin.close()
        last = "start of its name spaces"
        for line in _lines(process.stdout.fileno(), deadline):
            event = json.loads(line)
            last = event["step"]
            yield event
        if process.poll() is None and time.monotonic() >= deadline:
            raise DrillFailed(f"after {last}", f"the limit of {limit_s:g} s was reached")
        if process.wait() not in (0, 1):
            said = process.stderr.read(2000).decode("utf-8", "replace")
            raise DrillFailed(f"after {last}", " ".join(said.split()[-40:]) or f"exit code {process.returncode}")
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def _covers(folder: str, paths: tuple[str, ...]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for path in paths)


def _lines(fd: int, deadline: float) -> Iterator[bytes]:
    """Yield lines until the end of the stream or of the time."""
    rest = b""
    while True:
        ready, _, _ = select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
        piece = os.read(fd, 65536) if ready else b""
        if not piece or len(rest) > _MOST:
            return
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
