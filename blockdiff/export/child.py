"""A process that we start and end: a server or a mount.

It is in a process group of its own, so that ^C in a terminal reaches it only through us, and it ends
with us even if we are killed.
"""

import contextlib
import os
import select
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence

from blockdiff.childprocess import end_with_us

_PATIENCE_S = 10.0  # for a process that was asked to end
_MOST_TEXT, _LINES = 1000, 3  # bytes of its messages that are read, and lines that are kept


class Child:
    """A running process; its messages are kept until it is ready, for the error if it never is."""

    def __init__(self, words: Sequence[str], environ: Mapping[str, str], keep: Sequence[int] = ()) -> None:
        """`keep`: descriptors that it inherits."""
        self.name = os.path.basename(words[0])
        self.end, theirs = os.pipe()  # at its end when the process ends
        with tempfile.TemporaryFile() as said:
            try:
                self.process = subprocess.Popen(
                    words, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said,
                    pass_fds=(theirs, *keep), process_group=0, umask=0o077, preexec_fn=end_with_us(),
                )  # fmt: skip
            except BaseException:
                os.close(self.end)
                raise
            finally:
                os.close(theirs)
            self._said = os.dup(said.fileno())

    def text(self) -> str:
        """Return the last lines of its messages, else with which exit code it ended."""
        self.process.wait()
        size = os.fstat(self._said).st_size
        text = os.pread(self._said, _MOST_TEXT, max(0, size - _MOST_TEXT)).decode("utf-8", "replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return "; ".join(lines[-_LINES:]) if lines else f"it ended with exit code {self.process.returncode}"

    def ended(self, within_s: float = 0) -> bool:
        """Return whether it has ended, or does within that time."""
        return wait([self], within_s) is not None

    def close(self) -> None:
        """End it, and wait for that."""
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            self.process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.end)
        os.close(self._said)


def wait(children: Iterable[Child], within_s: float | None = None) -> Child | None:
    """Return one of the children that has ended, None if none does within that time (None: for ever)."""
    found = select.select({child.end: child for child in children}, [], [], within_s)[0]
    return next((child for child in children if child.end in found), None)
