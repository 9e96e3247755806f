"""An export as a file, for programs that do not speak NBD: nbdfuse mounts a folder with one file in it."""

import contextlib
import os
import subprocess
from collections.abc import Iterator, Mapping

from blockdiff.errors import NotAllowedHere, TargetRefused
from blockdiff.export.child import Child
from blockdiff.findprogram import find

FILE = "disk"  # its name in the folder
_POLL_S = 0.01


@contextlib.contextmanager
def mounted(
    uri: str, folder: str, pidfile: str, *, writable: bool, environ: Mapping[str, str]
) -> Iterator[tuple[Child, str]]:
    """Mount an export in a folder meanwhile, which is made if there is none; gives the process and the file's path.

    `pidfile`: where nbdfuse writes when it is ready.  Raises TargetRefused, ProgramUnfit or NotAllowedHere.
    """
    nbdfuse = find("nbdfuse", "libnbd-bin fuse3", environ)
    fusermount = find("fusermount3", "fuse3", environ)
    folder = os.path.abspath(folder)
    made = _prepare(folder)
    path = os.path.join(folder, FILE)
    try:
        child = Child([nbdfuse, *([] if writable else ["-r"]), "-P", pidfile, path, uri], environ)
        try:
            while not os.path.exists(pidfile):
                if child.ended(_POLL_S):
                    raise NotAllowedHere("FUSE", child.text(), hint="it takes /dev/fuse and a user that passwd knows")
            yield child, path
        finally:
            child.close()
            if child.process.returncode:  # it may have left its mount
                subprocess.run([fusermount, "-u", "-z", folder], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    finally:
        if made:
            with contextlib.suppress(OSError):
                os.rmdir(folder)


def _prepare(folder: str) -> bool:
    """Make sure that there is an empty folder; return whether it was made."""
    try:
        os.mkdir(folder, 0o700)
        return True
    except FileExistsError:
        pass
    except OSError as error:
        raise TargetRefused(folder, error.strerror) from None
    try:
        if os.listdir(folder):
            raise TargetRefused(folder, "it is not empty")
    except OSError as error:
        hint = f"if a mount is left there: fusermount3 -u {folder}"
        raise TargetRefused(folder, error.strerror, hint=hint) from None
    return False
