"""Every python on this machine, for code that must run on whatever a source host has."""

import functools
import glob
import os
import re
import subprocess

_NAME = re.compile(r"python(\d(\.\d+)?)?|pypy3?(\.\d+)?")


@functools.cache
def found():
    """Return {path: (major, minor)} of each interpreter, without doubles."""
    folders = [*os.environ["PATH"].split(os.pathsep), "/usr/bin", "/usr/local/bin", "/usr/libexec"]
    folders += glob.glob(os.path.expanduser("~/.pyenv/versions/*/bin"))
    paths = {}
    for folder in folders:
        if os.path.basename(folder) == "shims":  # they start one of the others
            continue
        for path in glob.glob(os.path.join(folder, "p*")):
            if _NAME.fullmatch(os.path.basename(path)) and os.access(path, os.X_OK):
                paths.setdefault(os.path.realpath(path), path)
    versions = {}
    for path in paths.values():
        ask = [path, "-E", "-S", "-c", "import sys;print('%d %d' % sys.version_info[:2])"]
        done = subprocess.run(ask, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60, check=False)
        words = done.stdout.decode("ascii", "replace").split()
        if done.returncode == 0 and len(words) == 2:  # a shim may stand for nothing
            versions[path] = (int(words[0]), int(words[1]))
    return versions


def usable():
    """Return the paths of those that the agent must run on."""
    return sorted(path for path, version in found().items() if version >= (3, 6))


def some():
    """Return the oldest and the newest of them, and one that is not CPython."""
    paths = usable()
    by_age = sorted(paths, key=lambda path: found()[path])
    return sorted({*by_age[:1], *by_age[-1:], *[path for path in paths if "pypy" in path][:1]})


def too_old():
    """Return the paths of those that it must refuse."""
    return sorted(path for path, version in found().items() if version < (3, 6))
