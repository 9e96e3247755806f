"""Programs of the source host, such as LVM's: run one, get its output, hear its chatter."""

import os
import subprocess

SBIN = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"


class ProgramFailed(Exception):
    """A program ended badly; `reason` is its last words, for a person."""

    def __init__(self, program, code, reason):
        super().__init__("%s: %s" % (program, reason))
        self.program = program
        self.code = code  # 127 where there is no such program
        self.reason = reason


class Runner:
    """Runs programs in the C locale, with nothing on stdin and none of our descriptors.

    `say` is called with each line of chatter: all of stderr, and what a caller passes on.
    """

    def __init__(self, say=None):
        self._say = say

    def say(self, program, text):
        """Pass a program's chatter on, line by line."""
        for line in text.splitlines():
            if line.strip() and self._say is not None:
                self._say("%s: %s" % (program, line.strip()))

    def __call__(self, program, *arguments):
        """Return what the program writes to stdout; raises ProgramFailed."""
        environment = dict(os.environ, LC_ALL="C", LVM_SUPPRESS_FD_WARNINGS="1")
        environment["PATH"] = ":".join(filter(None, (os.environ.get("PATH"), SBIN)))
        try:
            child = subprocess.Popen(
                (program, *arguments),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                close_fds=True,
                env=environment,
            )
        except OSError as error:
            raise ProgramFailed(program, 127, "cannot be run: %s" % error.strerror) from error
        out, err = (text.decode("utf-8", "replace") for text in child.communicate())
        self.say(program, err)
        if child.returncode != 0:
            # the first line that is not a mere warning says what went wrong
            lines = [line.strip() for line in err.splitlines() if line.strip()]
            telling = [line for line in lines if not line.startswith("WARNING")] or lines
            reason = "; ".join(telling[:3]) or "exit code %d" % child.returncode
            raise ProgramFailed(program, child.returncode, reason)
        return out
