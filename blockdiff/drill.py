"""Drill: prove that a version works by using it, on a clone that is thrown away.

Nothing is copied and nothing is written to the set.  The clone's file system is checked, its database
server started, asked and stopped; the server reaches nobody, and what it writes is discarded.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from blockdiff.drilling import boot, booted, filesystem, mariadb, postgres, sandbox
from blockdiff.errors import BlockdiffError, DrillFailed, ProgramUnfit
from blockdiff.printable import quoted
from blockdiff.sets import versions
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.newversion import now

_INSTALLED = {
    "mariadb": (mariadb.installed, "mariadbd", "mariadb-server"),
    "postgres": (postgres.installed, "postgres", "postgresql"),
}


@dataclass(frozen=True)
class Wanted:
    """What is to be done with the clone."""

    server: str = ""  # "mariadb", "postgres" or none
    path: str = ""  # of its data, in the file system
    settings: tuple[str, ...] = ()  # NAME=VALUE
    database: str = ""
    queries: tuple[str, ...] = ()
    expect: str | None = None  # a regular expression that each answer has a match of
    check: bool = False  # all tables
    run: str | None = None  # a shell command, in the mounted file system
    boot: str | None = None  # a regular expression for the serial console of a machine that boots from it
    memory: int = 1024  # MiB of that machine
    part: int | None = None  # where the file system is; None, and no `lv`: on the volume itself, or the only one
    lv: str | None = None  # VG/LV
    scratch: str = "/var/tmp"  # folder for what a guest or a machine writes
    limit_s: float = 900.0


@dataclass(frozen=True)
class Step:
    """One step that ended."""

    name: str
    seconds: float
    text: str  # its result, or why it failed


@dataclass
class Drilled:
    """What a drill did."""

    name: str
    version: int
    taken: str  # when the version began, ISO 8601; "" if that is not known
    md5_sha256: str  # of its digest file
    size: int | None  # bytes of the volume
    begun: int  # seconds since 1970
    steps: list[Step] = field(default_factory=list)
    seconds: float = 0.0
    read: int | None = None  # bytes of the version; None: not known
    failure: BlockdiffError | None = None

    @property
    def why(self) -> str:
        """Why it failed; "" if it passed."""
        return "" if self.failure is None else self.failure.message


@dataclass(frozen=True)
class Clone:
    """A version as a disk that can be written; what is written is discarded."""

    uri: str
    path: str | None  # None: only over NBD
    read: Callable[[], int | None]  # bytes of the version that were read; known when the clone is gone


Event = dict[str, Any]  # see drilling/steps.py
# makes a clone of a version
Cloning = Callable[[int], AbstractContextManager[Clone]]


def drill(
    backup_set: BackupSet,
    number: int | None,
    wanted: Wanted,
    clone: Cloning,
    environ: Mapping[str, str],
    begin: Callable[[int, str], object] = lambda version, taken: None,
    step: Callable[[Step], object] = lambda step: None,
) -> Drilled:
    """Drill version `number` (None: the newest).

    `begin` is called with the version and when that began, `step` with each step that ended.
    That it failed is in the result.  Raises BlockdiffError if it cannot be begun.
    """
    if wanted.server:
        installed, program, package = _INSTALLED[wanted.server]
        if not installed():
            raise ProgramUnfit(program, "it is not installed", hint=f"apt install {package}")
    listing = backup_set.settled_listing()
    chosen, _ = versions.choose(backup_set, number, listing, False)
    version = versions.version(backup_set, chosen, listing)
    digests = backup_set.hash(chosen, ".md5").sha256
    value = version.manifest.value if version.manifest is not None else {}
    taken = str(value.get("begun") or "")
    out = Drilled(backup_set.name, chosen, taken, digests, version.size, int(now().timestamp()))
    begin(chosen, taken)
    work = _Work(out, wanted, environ, step)
    try:
        with clone(chosen) as made:
            work.run(made)
        out.read = made.read()
    except DrillFailed as error:
        out.failure = error
    out.seconds = work.seconds()
    return out


class _Work:
    """The steps of one drill."""

    def __init__(
        self, out: Drilled, wanted: Wanted, environ: Mapping[str, str], step: Callable[[Step], object]
    ) -> None:
        self._out, self._wanted, self._environ, self._step = out, wanted, environ, step
        self._began = time.monotonic()

    def seconds(self) -> float:
        """Return how long it took so far."""
        return time.monotonic() - self._began

    def _left(self) -> float:
        return max(0.0, self._wanted.limit_s - self.seconds())

    def _note(self, name: str, seconds: float, text: str) -> None:
        self._out.steps.append(Step(name, seconds, text))
        self._step(self._out.steps[-1])

    def run(self, made: Clone) -> None:
        """Do all steps.  Raises DrillFailed at the first that fails."""
        wanted, path = self._wanted, made.path
        self._note("open", self.seconds(), "a clone, of which nothing was copied")
        if wanted.boot is not None:
            began = self.seconds()
            line = boot.boot(made.uri, wanted.boot, self._left(), self._environ, wanted.scratch, wanted.memory)
            self._note("boot", self.seconds() - began, line)
            return
        assert path is not None
        whole = wanted.part is None and wanted.lv is None and filesystem.is_ext(path)
        for event in self._in_name_spaces(path) if whole else self._in_guest(path):
            if event["failed"]:
                raise DrillFailed(quoted(event["step"]), quoted(event["text"]))
            self._note(event["step"], event["seconds"], event["text"])

    def _in_name_spaces(self, path: str) -> Iterator[Event]:
        """Check the file system on the volume itself, and use it."""
        sandbox.require()
        began = self.seconds()
        text = filesystem.check(path, self._left())
        self._note("fsck", self.seconds() - began, text)
        if self._wanted.server or self._wanted.run is not None:
            owner = filesystem.owner(path, self._wanted.path)
            yield from sandbox.run(self._request(path), *owner, self._left())

    def _in_guest(self, path: str) -> Iterator[Event]:
        """Mount a file system with a kernel in user mode, and use it."""
        version = (self._out.version, self._out.name)
        return booted.run(self._request(path), version, self._environ, self._wanted.scratch, self._left())

    def _request(self, path: str) -> dict[str, Any]:
        wanted = self._wanted
        return {
            "image": path, "server": wanted.server, "path": wanted.path, "settings": wanted.settings,
            "database": wanted.database, "queries": wanted.queries, "expect": wanted.expect, "check": wanted.check,
            "run": wanted.run, "part": wanted.part, "lv": wanted.lv,
        }  # fmt: skip
