"""A cron job with its output in a log, and in cron's mail only if it failed.

The log is only appended to, as the output arrives, so that it can be followed and several
jobs can share it. A copy of this run's text is kept for printing: lines that other jobs write
to the same log meanwhile do not belong into this job's mail. If the log cannot be written any
more, the job continues, with a warning.

A command is executed as Perl's exec does, which the original called: see `_execute`.
"""

import errno
import os
import re
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO

from blockdiff.childprocess import Signals, exit_code, exit_code_unstarted
from blockdiff.jobtext import JobText

_PIECE = 65536  # bytes read from the command at once
_POLL_S = 0.5
_DRAIN_S = 1.0  # how long output is still read from children of a stopped command
_SHELL = "/bin/sh"
# a command in one word that needs a shell, as Perl decides it
_FOR_A_SHELL = re.compile(r"[$&*(){}\[\]'\";\\|?<>~`\n]|\A\s*(?:\w+=|(?:\.|exec)\s)")


@dataclass
class JobResult:
    """A command's exit code, and this run's part of the log (without the line of dashes)."""

    exit_code: int
    text: IO[bytes]  # read from its beginning; the caller closes it
    warnings: list[str]


def run(
    command: Sequence[str],
    *,
    logfile: str | None = None,
    timestamp: bool = False,
    host: str | None = None,
    now: Callable[[], str] = time.asctime,
) -> JobResult:
    """Run a command with its output going to the log, and return its result.

    HUP, INT and TERM are passed on to the command. Raises StoreFailed, before the command
    is run, if the log cannot be opened.
    """
    with JobText(logfile, now if timestamp else None) as log, Signals() as signals:
        log.starts(" ".join(command), host)
        code = _run(command, log, signals)
        log.text.seek(0)
        return JobResult(code, log.text, log.warnings)


def _run(command: Sequence[str], log: JobText, signals: Signals) -> int:
    """Run the command to its end and return its exit code, as the shell would."""

    try:
        child = signals.start(lambda: _execute(command))
    except OSError as error:
        code = exit_code_unstarted(error)
        log.unstarted(error, code)
        return code
    with child:
        _copy(child, log, signals)
        status = child.wait()
    log.ended(status)
    return exit_code(status)


def _execute(command: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a command: several words as they are; a single word by a shell if it needs one, else split at blanks.

    An executable file without #! is run by a shell, as execvp(3) does it. Raises OSError.
    """

    def spawn(words: Sequence[str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0)

    words = command
    if len(command) == 1:
        words = [_SHELL, "-c", command[0]] if _FOR_A_SHELL.search(command[0]) else command[0].split()
    try:
        return spawn(words)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        return spawn([_SHELL, shutil.which(words[0]) or words[0], *words[1:]])


def _copy(child: subprocess.Popen[bytes], log: JobText, signals: Signals) -> None:
    """Copy the command's output until no process has its end of the pipe open.

    When a command was stopped by a signal and has ended, a child of its own may still have the
    pipe open: that one is waited for _DRAIN_S at most.
    """
    assert child.stdout is not None
    fd = child.stdout.fileno()
    deadline = None
    while deadline is None or time.monotonic() < deadline:
        if deadline is None and signals.received and child.poll() is not None:
            deadline = time.monotonic() + _DRAIN_S
        if select.select([fd], [], [], _POLL_S)[0]:
            data = os.read(fd, _PIECE)
            if not data:
                return
            log.write(data)
