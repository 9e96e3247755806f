"""Programs of ours, run as another user."""

import importlib.util
import os
import pathlib
import pwd
import shutil
import stat
import subprocess
import sys

from launched import lacking
from places import ROOT

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
        test = "import sys; print(sys.version_info[:2])"
        # env: where the first program of a user keeps root's rights until it has begun, it could run what others cannot
        words = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "env", path, "-c", test]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.stdout.strip() == str(sys.version_info[:2]):
            return words[:6]
    return lacking(f"the user {user} can run no python {sys.version_info[:2]}")


def packages(folder):
    """Copy what our programs import into a folder: this checkout may be where nobody else can read."""
    into = pathlib.Path(folder, "site-packages")
    for name in ("blockdiff", "click", "deflate", "isal", "pymysql", "zstandard"):
        found = ROOT / name if name == "blockdiff" else pathlib.Path(importlib.util.find_spec(name).origin).parent
        shutil.copytree(found, into / name, ignore=shutil.ignore_patterns("__pycache__"))


def with_fuse(folder):
    """Words before a command that let any user open its /dev/fuse, as udev does; the device is made in `folder`."""
    node = pathlib.Path(folder, "fuse")
    os.mknod(node, stat.S_IFCHR | 0o666, os.stat("/dev/fuse").st_rdev)
    node.chmod(0o666)
    return ["unshare", "--mount", "sh", "-ec", f'mount --bind {node} /dev/fuse; exec "$@"', "sh"]


def run_as(user, program, own, *words, before=()):
    """Run a program of ours as this user, whose folder `own` is beside what `packages` made; returns how it ended."""
    environ = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(own), "TMPDIR": str(own),
        "PYTHONPATH": str(pathlib.Path(own).parent / "site-packages"),
    }  # fmt: skip
    words = [*before, *python_for(user), "-c", _LAUNCH.format(program), *map(str, words)]
    return subprocess.run(words, env=environ, capture_output=True, text=True, timeout=60, cwd="/")
