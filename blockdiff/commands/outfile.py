"""A file for other programs that a command writes: under a temporary name beside it, synced, then renamed."""

import os
import stat
import tempfile


def replace(path: str, content: str) -> None:
    """Replace a file; who reads it finds the old or the new one, whole.  Raises OSError.

    A link is followed.  A device or a pipe, such as /dev/null, is written to.
    """
    path = os.path.realpath(path)
    if os.path.lexists(path) and not stat.S_ISREG(os.stat(path).st_mode):
        with open(path, "w", encoding="utf-8") as file:
            file.write(content)
        return
    folder, name = os.path.split(path)
    fd, part = tempfile.mkstemp(prefix=f".{name}.", suffix=".tmp", dir=folder)
    try:
        with open(fd, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        os.unlink(part)
        raise
