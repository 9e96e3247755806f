"""Files that are kept open, so that a reader gets them also after they were removed or replaced.

A prune may remove or rewrite versions while they are being read.
"""

import contextlib
import os
import resource
from collections.abc import Iterable
from types import TracebackType

from blockdiff.sets.version import VersionFiles

_SPARE = 64  # descriptors for everything else


class OpenFiles:
    """The files of some versions, open; use it as a context manager.

    What cannot be opened, or would be more than the process may have open, is opened when it is read.
    """

    def __init__(self, links: Iterable[VersionFiles]) -> None:
        most = _raise_limit() - _SPARE
        self.missing = False  # a file is gone
        self._fds: dict[str, int] = {}
        paths = [path for files in links for path in (files.index, files.diff, files.digests) if path is not None]
        for path in paths[: max(0, most)]:
            try:
                self._fds[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                self.missing = True
            except OSError:
                continue

    def __enter__(self) -> "OpenFiles":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all files."""
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()

    def place(self, path: str) -> str:
        """Return the path at which a file is to be opened."""
        fd = self._fds.get(path)
        return path if fd is None else f"/proc/self/fd/{fd}"


def _raise_limit() -> int:
    """Let this process open as many files as it may; returns how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or soft == resource.RLIM_INFINITY:
        return soft if soft != resource.RLIM_INFINITY else 1 << 20
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
