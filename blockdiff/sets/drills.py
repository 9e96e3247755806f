"""NAME.drills: what drills of a set's versions found, a line of JSON each, the newest last.

It is no file of the set: it may be removed at any time.  Of a set in an object store, it is in the user's
folder of state.  Format: blockdiff-drill(1), "Files".
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

FORMAT = 1  # of a line
SUFFIX = ".drills"
_MOST = 1 << 20  # bytes of the file's end that are read


@dataclass(frozen=True)
class Drill:
    """One drill."""

    version: int
    begun: int  # when the drill began, in seconds since 1970
    passed: bool
    why: str  # the step that failed and what was wrong; "" if it passed


def path_of(name: str) -> str:
    """Return the path of the file of a set in a folder."""
    return f"{name}{SUFFIX}"


def add(path: str, value: dict[str, Any], keep: int) -> None:
    """Add a drill, and keep only the newest ones, so many and so many bytes as are read.  Raises OSError."""
    with _open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND) as fd:
        fcntl.flock(fd, fcntl.LOCK_EX)
        lines = [*_lines(fd), json.dumps(value, sort_keys=True, separators=(",", ":")).encode()][-keep:]
        while len(lines) > 1 and sum(len(line) + 1 for line in lines) > _MOST:
            del lines[0]
        # in place: a second drill has it open; lines are short, and one that is cut is left out when it is read
        data = b"".join(line + b"\n" for line in lines)
        os.ftruncate(fd, 0)
        while data:
            data = data[os.write(fd, data) :]
        os.fsync(fd)


def load(path: str) -> list[Drill]:
    """Return the drills of a set, the newest last; none if the file is missing or of no use."""
    with contextlib.suppress(OSError), _open(path, os.O_RDONLY) as fd:
        return [found for line in _lines(fd) if (found := _drill(line)) is not None]
    return []


def newest(path: str) -> Drill | None:
    """Return the newest drill of a set."""
    return next(reversed(load(path)), None)


@contextlib.contextmanager
def _open(path: str, flags: int) -> Iterator[int]:
    fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


def _lines(fd: int) -> list[bytes]:
    size = os.fstat(fd).st_size
    start = max(0, size - _MOST)
    lines = os.pread(fd, _MOST, start).split(b"\n")
    return [line for line in lines[1 if start else 0 :] if line]


def _drill(line: bytes) -> Drill | None:
    try:
        value = json.loads(line)
        if value["format"] != FORMAT:
            return None
        begun = int(datetime.fromisoformat(value["begun"]).timestamp())
        return Drill(int(value["version"]), begun, value["outcome"] == "passed", str(value["why"]))
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
