"""The steps of a drill in which a mounted clone is used; they run in its name spaces, or in its guest."""

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

from blockdiff.drilling.mariadb import MariaDB
from blockdiff.drilling.postgres import Postgres
from blockdiff.drilling.server import Problem, Server

SERVERS: dict[str, type[Server]] = {"mariadb": MariaDB, "postgres": Postgres}
MOST = 4096  # characters of a result that are kept


class Failed(Exception):
    """A step failed, and that was told."""


class Steps:
    """Tells of each step how it ended."""

    def __init__(self, tell: Callable[[dict[str, Any]], object]) -> None:
        self._tell = tell

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[list[str]]:
        """Time a step; it puts its result, for people, into the list.  Raises Failed if it fails."""
        began, said = time.monotonic(), [""]
        problem = ""
        try:
            yield said
        except (Problem, OSError) as error:
            problem = str(error) or type(error).__name__
        seconds = round(time.monotonic() - began, 3)
        text = (problem or said[0]).replace("\0", "?")[:MOST]
        self._tell({"step": name, "seconds": seconds, "text": text, "failed": bool(problem)})
        if problem:
            raise Failed

    def use(self, request: dict[str, Any], folder: str, run: str, owner: tuple[int, int] | None = None) -> None:
        """Use the clone that is mounted in `folder`.  Raises Failed.

        `run`: a folder in memory.  `owner`: whom the server runs as, None: as we do.
        """
        if request["server"]:
            self._ask(request, folder, run, owner)
        if request["run"] is not None:
            with self.step("run") as said:
                said[0] = _command(request["run"], folder)

    def _ask(self, request: dict[str, Any], folder: str, run: str, owner: tuple[int, int] | None) -> None:
        """Start the server, ask it, stop it."""
        data = os.path.join(folder, request["path"].strip("/"))
        with self.step("start") as said:
            if not os.path.isdir(data):
                raise Problem(f"there is no folder {request['path']}")
            if not f"{os.path.realpath(data)}/".startswith(f"{os.path.realpath(folder)}/"):
                raise Problem(f"{request['path']} is a link that leads out of the file system")
            scratch = os.path.join(data, ".blockdiff-drill")  # on the clone, whose owner may only write here
            os.mkdir(scratch)
            for path in (scratch, run) if owner is not None else ():
                os.chown(path, *owner)  # type: ignore[misc]
            settings, database = request["settings"], request["database"]
            server = SERVERS[request["server"]](data, run, scratch, settings, database, owner)
            server.start()
            said[0] = server.started()
        for sql in request["queries"]:
            with self.step("query") as said:
                answer = server.query(sql)
                said[0] = " ".join(answer[:MOST].split("\n"))
                if request["expect"] is not None and not re.search(request["expect"], answer, re.MULTILINE):
                    raise Problem(f"the answer is {answer[:200]!r}, which does not match {request['expect']!r}")
        if request["check"]:
            with self.step("check") as said:
                said[0] = server.check()
        with self.step("stop") as said:
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
