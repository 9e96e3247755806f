"""cronlog as a program of its own."""

import os
import subprocess
import sys

import places
from programs import Program

ROOT = places.ROOT

LAUNCH = "import sys; from blockdiff.commands import programs; sys.argv[0] = 'cronlog'; programs.main()"

CRONLOG = [sys.executable, "-c", LAUNCH]

HOST = os.uname().nodename


def start(*arguments, **options):
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    return Program(
        [*CRONLOG, *arguments], env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    )


def run(*arguments, **options):
    """Run cronlog to its end; return exit code, stdout, stderr."""
    with start(*arguments, **options) as process:
        out, err = process.communicate(timeout=30)
    return process.returncode, out.decode(), err.decode()
