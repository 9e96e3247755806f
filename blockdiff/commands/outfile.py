"""A file for other programs that a command writes: under a temporary name beside it, synced, then renamed."""

import os
import tempfile


def replace(path: str, content: str) -> None:
    """Replace a file; who reads it finds the old or the new one, whole.  Raises OSError."""
    folder, name = os.path.split(path)
    fd, part = tempfile.mkstemp(prefix=f".{name}.", suffix=".tmp", dir=folder or ".")
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
