"""Programs of ours, run as another user."""

import importlib.util
import os
import pathlib
import pwd
import shutil
import subprocess
import sys
import tempfile

from launched import lacking
from places import ROOT

_NEEDED = ("click", "deflate", "isal", "tqdm", "zstandard")
_LAUNCH = "import sys; from blockdiff.commands import programs; sys.argv[0] = '{}'; programs.main()"


def account(user):
    """A user's entry; the test is skipped where nobody can become that user."""
    if os.geteuid() != 0:
        lacking("another user needs root")
    try:
        return pwd.getpwnam(user)
    except KeyError:
        return lacking(f"there is no user {user}")


def python_for(user):
    """A Python like ours that this user can run, and how."""
    for path in (sys.executable, "/usr/bin/python3"):
        # once more: setpriv itself may start what this user may not
        test = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import sys; print(sys.version_info[:2])'])"
        words = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", path, "-c", test]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.stdout.strip() == str(sys.version_info[:2]):
            return words[:4] + [path]
    return lacking(f"the user {user} can run no python {sys.version_info[:2]}")


def run_as(user, program, own, *words, before=()):
    """Run a program of ours as this user, whose folder `own` is; returns how it ended."""
    with tempfile.TemporaryDirectory(prefix="blockdiff-test-") as folder:
        os.chmod(folder, 0o755)
        packages = _copied(pathlib.Path(folder, "site-packages"))
        environ = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(own), "TMPDIR": str(own), "PYTHONPATH": packages}
        words = [*before, *python_for(user), "-c", _LAUNCH.format(program), *map(str, words)]
        return subprocess.run(words, env=environ, capture_output=True, text=True, timeout=60, cwd="/")


def _copied(packages):
    """Copy our package and those that it needs, for the checkout may be where nobody else can read."""
    folders = [ROOT / "blockdiff", *(pathlib.Path(importlib.util.find_spec(name).origin).parent for name in _NEEDED)]
    for folder in folders:
        shutil.copytree(folder, packages / folder.name, ignore=shutil.ignore_patterns("__pycache__"))
    return str(packages)
