"""The agent under strace: what it really asks of the kernel, and a kernel that fails on order."""

import os
import re
import shutil
import subprocess

import pytest

from blockdiff.source import push
from blockdiff.transport.local import LocalTransport


def needs_strace():
    """Skip where strace cannot be used; fail there if the lab is required."""
    reason = None
    if shutil.which("strace") is None:
        reason = "strace is not installed"
    elif subprocess.run(["strace", "-o", "/dev/null", "true"], stderr=subprocess.DEVNULL, check=False).returncode:
        reason = "strace may trace nothing here"
    if reason is None:
        return
    if os.environ.get("BLOCKDIFF_REQUIRE_LAB") == "1":
        pytest.fail(f"BLOCKDIFF_REQUIRE_LAB=1, but {reason}", pytrace=False)
    pytest.skip(reason)


def traced(*options, python=None, cwd=None):
    """What starts an agent under strace."""
    words = ["strace", "-f", "-qq", *map(str, options), *push.local_command(python)]
    if cwd is not None:
        words = ["sh", "-c", 'cd "$0" && exec "$@"', str(cwd), *words]
    return lambda: LocalTransport(words)


def opened(words, folder, **options):
    """Run a program under strace, and return the paths of all files that it opened, and its exit code."""
    log = folder / "opened"
    log.unlink(missing_ok=True)
    trace = ["strace", "-f", "-qq", "-y", "--seccomp-bpf", "-e", "trace=/^open", "-o", log]
    done = subprocess.run([*map(str, trace), *words], stdout=subprocess.DEVNULL, check=False, timeout=60, **options)
    found = re.findall(r" = \d+<(.*)>$", log.read_text(errors="surrogateescape"), re.MULTILINE)
    return set(found), done.returncode


_CALL = re.compile(r"^(?:\d+ +)?(\w+)\((.*)\) += +(-?\w+)(?:<.*>)?(?: .*)?$")  # with -y a descriptor has its path


def calls(log):
    """Yield (name, arguments, result) of each system call in strace's log; cut ones are joined."""
    held = {}
    for line in log.read_text(errors="backslashreplace").splitlines():
        pid, _, rest = line.partition(" ")
        rest = rest.strip()
        if rest.endswith("<unfinished ...>"):
            held[pid] = rest[: -len("<unfinished ...>")].rstrip()
            continue
        resumed = re.match(r"<\.\.\. \w+ resumed>(.*)", rest)
        if resumed:
            rest = held.pop(pid) + resumed[1]
        if rest.startswith(("+++", "---")):
            continue
        match = _CALL.match(rest)
        if match is None and rest.endswith("= ?"):  # exit
            continue
        assert match, line
        yield match[1], match[2], match[3]
    for rest in held.values():  # the process ended in it
        name, _, arguments = rest.partition("(")
        yield name, arguments, "?"
