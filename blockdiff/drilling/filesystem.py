"""The file system of a clone: what it is, a check that replays its journal, and whose a folder in it is."""

import os
import re
import shutil
import subprocess

from blockdiff.errors import DrillFailed, ProgramUnfit

_MAGIC_AT, _MAGIC = 1024 + 56, b"\x53\xef"
_PATH = "/usr/sbin:/sbin"  # not every user has them


def _program(name: str) -> str:
    path = shutil.which(name) or shutil.which(name, path=_PATH)
    if path is None:
        raise ProgramUnfit(name, "it is not installed", hint="apt install e2fsprogs")
    return path


def is_ext(image: str) -> bool:
    """Return whether there is an ext2, ext3 or ext4 file system on the volume itself."""
    with open(image, "rb") as file:
        return os.pread(file.fileno(), len(_MAGIC), _MAGIC_AT) == _MAGIC


def check(image: str, limit_s: float) -> str:
    """Check it, replay its journal and correct it; return what was found, for people.  Raises DrillFailed."""
    # fuse2fs of e2fsprogs 1.47.0 ends with a segmentation fault on a journal that must be replayed
    try:
        done = subprocess.run(
            ["env", "LC_ALL=C", _program("e2fsck"), "-fy", image], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", timeout=limit_s, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise DrillFailed("fsck", "it did not end in time") from None
    if done.returncode not in (0, 1):
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        raise DrillFailed("fsck", f"e2fsck ended with exit code {done.returncode}: {'; '.join(lines[-3:])}")
    replayed = "recovering journal" in done.stdout
    corrected = re.search(r"[.?] (?:yes|Fixed|Cleared)", done.stdout) is not None
    return ", ".join(["ext4", *(["journal replayed"] if replayed else []), "corrected" if corrected else "clean"])


def owner(image: str, path: str) -> tuple[int, int]:
    """Return uid and gid of a path in it.  Raises DrillFailed."""
    clean = "/" + path.strip("/")
    if any(character in clean for character in '"\n\0'):
        raise DrillFailed("mount", f"the path {clean!r} cannot be looked up")
    done = subprocess.run(
        [_program("debugfs"), "-R", f'stat "{clean}"', image], stdin=subprocess.DEVNULL, capture_output=True,
        text=True, errors="replace", check=False,
    )  # fmt: skip
    match = re.search(r"^User: +(\d+) +Group: +(\d+)", done.stdout, re.MULTILINE)
    if match is None:
        raise DrillFailed("mount", f"there is no {clean} in the file system")
    return int(match[1]), int(match[2])
