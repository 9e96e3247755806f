"""Run programs of the source host, such as those of LVM: return their output, log their messages."""

import os
import subprocess

_MOST_LINES = 200  # different ones that a runner passes on
SBIN = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"


class ProgramFailed(Exception):
    """A program failed; `reason` is its message."""

    def __init__(self, program, code, reason):
        super().__init__("%s: %s" % (program, reason))
        self.program = program
        self.code = code  # 127 where there is no such program
        self.reason = reason


def environment():
    """Return the environment for a program: the C locale, and the folders of the system's programs."""
    path = ":".join(filter(None, (os.environ.get("PATH"), SBIN)))
    return dict(os.environ, LC_ALL="C", LVM_SUPPRESS_FD_WARNINGS="1", PATH=path)


class Runner:
    """Runs programs in the C locale, with nothing on stdin and none of our descriptors.

    `log` takes lines for the log, each different one once: what a program that failed writes to stderr
    beside the reason; with `verbose` all that any program writes there, and its `chatter`.
    """

    def __init__(self, log=lambda line: None, verbose=False):
        self._log = log
        self._verbose = verbose
        self._passed = set()

    def chatter(self, program, text):
        """Log output of a program that the agent does not need."""
        if self._verbose:
            self._pass_on(program, _lines(text))

    def _pass_on(self, program, lines):
        for line in lines:
            line = "%s: %s" % (program, line)
            if line not in self._passed and len(self._passed) < _MOST_LINES:
                self._passed.add(line)
                self._log(line)

    def __call__(self, program, *arguments):
        """Return what the program writes to stdout; raises ProgramFailed."""
        try:
            child = subprocess.Popen(
                (program, *arguments),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                close_fds=True,
                env=environment(),
            )
        except OSError as error:
            raise ProgramFailed(program, 127, "cannot be run: %s" % error.strerror) from error
        out, err = (text.decode("utf-8", "replace") for text in child.communicate())
        lines = _lines(err)
        if child.returncode != 0:
            # the reason is in the first line that is not a warning
            telling = ([line for line in lines if not line.startswith("WARNING")] or lines)[:3]
            self._pass_on(program, [line for line in lines if line not in telling])
            reason = "; ".join(telling) or "exit code %d" % child.returncode
            raise ProgramFailed(program, child.returncode, reason)
        self.chatter(program, err)
        return out


def _lines(text):
    return [line.strip() for line in text.splitlines() if line.strip()]
