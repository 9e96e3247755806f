"""mysqllock as a program of its own, as a backup starts it."""

import json
import os
import re
import subprocess
import sys

import places
from programs import Program

ROOT = places.ROOT
LAUNCH = "from blockdiff.commands.mysqllock import command; from blockdiff.commands.exits import run; "
MYSQLLOCK = [sys.executable, "-c", LAUNCH + "run(command, 'mysqllock')"]


def environ(tmp_path, **more):
    """Return an environment without option files or passwords of whoever runs the tests."""
    kept = {name: value for name, value in os.environ.items() if name != "MYSQL_PWD"}
    return {**kept, "HOME": str(tmp_path), "USER": "root", "PYTHONPATH": str(ROOT), **more}


def start(tmp_path, *arguments, env=None, **options):
    """Start mysqllock; return its process, stdout and stderr in pipes."""
    pipe = subprocess.PIPE
    return Program(
        [*MYSQLLOCK, *arguments],
        env=environ(tmp_path, **(env or {})),
        stdout=pipe,
        stderr=pipe,
        text=True,
        **options,
    )


def mysqllock(tmp_path, *arguments, env=None, timeout=60):
    """Run mysqllock to its end; return exit code, stdout, stderr."""
    with start(tmp_path, *arguments, env=env) as process:
        out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err


def facts(out):
    """Return the lock's facts from what `env` wrote."""
    return json.loads(re.search(r"BLOCKDIFF_LOCK=(.*)", out).group(1))
