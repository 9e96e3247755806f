"""The part of a drill that runs inside its name spaces: mount the clone, start the server, ask it, stop it.

sandbox.py starts it.  It reads a request (JSON) from stdin and writes one event (JSON) in a line to
stdout for each step that ended.  When it ends, the kernel ends all processes and removes all mounts.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from blockdiff.drilling.mariadb import MariaDB
from blockdiff.drilling.postgres import Postgres
from blockdiff.drilling.server import Problem, Server

SERVERS: dict[str, type[Server]] = {"mariadb": MariaDB, "postgres": Postgres}
_MOUNT_S = 60.0
_MOST = 4096  # characters of a result that are kept
_TMPFS = "size=256m,mode=0700"


def main() -> None:
    """Run all steps of a request, until one fails."""
    try:
        _run(json.load(sys.stdin))
    except _Failed:
        sys.exit(1)


class _Failed(Exception):
    """A step failed, and that was written."""


def _event(**value: Any) -> None:
    print(json.dumps(value), flush=True)


@contextlib.contextmanager
def _step(name: str) -> Iterator[list[str]]:
    """Time a step; it puts its result, for people, into the list."""
    began, said = time.monotonic(), [""]
    problem = ""
    try:
        yield said
    except (Problem, OSError) as error:
        problem = str(error) or type(error).__name__
    seconds = round(time.monotonic() - began, 3)
    _event(step=name, seconds=seconds, text=(problem or said[0])[:_MOST], failed=bool(problem))
    if problem:
        raise _Failed


def _run(request: dict[str, Any]) -> None:
    base = request["base"]
    with _step("mount") as said:
        folder = _mount(request["image"], base)
        said[0] = "in name spaces of its own, without a network"
    if request["server"]:
        _ask(request, base, folder)
    if request["run"] is not None:
        with _step("run") as said:
            said[0] = _command(request["run"], folder)


def _mount(image: str, base: str) -> str:
    """Mount a tmpfs over a folder that exists, and in it the clone; return where that is."""
    _call(["mount", "-t", "tmpfs", "-o", _TMPFS, "blockdiff", base])
    folder, run = os.path.join(base, "clone"), os.path.join(base, "run")
    os.mkdir(folder)
    os.mkdir(run)
    # fakeroot: it asks for no permissions; the kernel's are those of the owner, who we are here
    with open(os.path.join(run, "fuse"), "w+b") as log:
        process = subprocess.Popen(
            ["fuse2fs", "-f", "-o", "fakeroot", image, folder], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        deadline = time.monotonic() + _MOUNT_S
        while not os.path.ismount(folder):
            if process.poll() is not None or time.monotonic() > deadline:
                log.seek(0)
                raise Problem(f"fuse2fs: {' '.join(log.read(2000).decode('utf-8', 'replace').split())}")
            time.sleep(0.01)
    return folder


def _call(words: list[str]) -> None:
    done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise Problem(" ".join(done.stderr.split()) or f"{words[0]} ended with exit code {done.returncode}")


def _ask(request: dict[str, Any], base: str, folder: str) -> None:
    """Start the server, ask it, stop it."""
    data = os.path.join(folder, request["path"].strip("/"))
    with _step("start") as said:
        if not os.path.isdir(data):
            raise Problem(f"there is no folder {request['path']}")
        scratch = os.path.join(data, ".blockdiff-drill")  # on the clone, whose owner may only write here
        os.mkdir(scratch)
        settings, database = request["settings"], request["database"]
        server = SERVERS[request["server"]](data, os.path.join(base, "run"), scratch, settings, database)
        server.start()
        said[0] = server.started()
    for sql in request["queries"]:
        with _step("query") as said:
            answer = server.query(sql)
            said[0] = " ".join(answer[:_MOST].split("\n"))
            if request["expect"] is not None and not re.search(request["expect"], answer, re.MULTILINE):
                raise Problem(f"the answer is {answer[:200]!r}, which does not match {request['expect']!r}")
    if request["check"]:
        with _step("check") as said:
            said[0] = server.check()
    with _step("stop") as said:
        said[0] = server.stop()


def _command(command: str, folder: str) -> str:
    """Run a shell command in the mounted clone; return its last line."""
    done = subprocess.run(
        ["sh", "-c", command], cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace", check=False,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    if done.returncode:
        raise Problem(f"exit code {done.returncode}: {'; '.join(lines[-3:])}")
    return lines[-1] if lines else ""
