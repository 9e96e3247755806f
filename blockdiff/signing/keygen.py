"""ssh-keygen as a child: it never asks anybody anything, and ends after a while."""

import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from blockdiff.errors import ProgramUnfit
from blockdiff.findprogram import find

PROGRAM, _PACKAGE = "ssh-keygen", "openssh-client"
_LIMIT_S = 30.0  # an agent may wait for a person, and so may a key in hardware


class Keygen:
    """The program, found once."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """`environ`: where it is looked for, and its environment.  Raises ProgramUnfit."""
        self.program = find(PROGRAM, _PACKAGE, environ)
        self._environ = {**environ, "SSH_ASKPASS_REQUIRE": "never", "LC_ALL": "C"}

    def run(self, words: Sequence[str], data: bytes, keep: Iterable[int] = ()) -> tuple[bytes | None, str]:
        """Run it with `data` as its input; return its output, None if it failed, and why if it said so.

        `keep`: descriptors that it inherits.  Raises ProgramUnfit.
        """
        try:
            # without a terminal there is nobody whom it could ask
            done = subprocess.run(
                [self.program, *words], input=data, capture_output=True, env=self._environ, timeout=_LIMIT_S,
                pass_fds=tuple(keep), start_new_session=True,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return None, f"{PROGRAM} did not end within {_LIMIT_S:.0f} s"
        except OSError as error:
            raise ProgramUnfit(PROGRAM, error.strerror) from None
        if done.returncode == 0:
            return done.stdout, ""
        lines = [line.strip() for line in done.stderr.decode("utf-8", "replace").splitlines()]
        return None, next(filter(None, reversed(lines)), "")


@contextmanager
def in_memory(data: bytes) -> Iterator[tuple[int, str]]:
    """Give a descriptor of a file that has these bytes, and the path by which a child that inherits it opens it."""
    fd = os.memfd_create("blockdiff")
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(data)
        yield fd, f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)
