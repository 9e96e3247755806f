"""Programs of bin/ as real processes: started, marked, looked for afterwards; and the sets they leave."""

import contextlib
import os
import pathlib
import secrets
import shutil
import signal
import subprocess
import sys
import time

import pytest
from conftest import OURS, ROOT
from engine import restored
from programs import Program

from blockdiff import verify
from blockdiff.sets.backupset import BackupSet

REQUIRED = os.environ.get("BLOCKDIFF_REQUIRE_LAB") == "1"
MARK = "BLOCKDIFF_TEST_MARK"


def lacking(reason):
    """Skip, or fail where everything has to run."""
    if REQUIRED:
        pytest.fail(reason)
    pytest.skip(reason)


def needs(*programs):
    """Skip unless these programs are there."""
    for name in programs:
        if shutil.which(name) is None:
            lacking(f"{name} is missing")


def bin_path(program):
    return os.fspath(ROOT / "bin" / program)


def environment(**more):
    """What cron would give a program, with the tests' python on PATH."""
    found = {name: value for name, value in os.environ.items() if name not in OURS}
    found["PATH"] = os.path.dirname(sys.executable) + os.pathsep + found["PATH"]
    return {**found, **more}


class Launched(Program):
    """A program under way whose processes, also those in other sessions, can be found again."""

    def __init__(self, program, *arguments, before=(), env=None, **options):
        self.mark = secrets.token_hex(8)
        words = [*before, bin_path(program), *map(os.fspath, arguments)]
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        super().__init__(words, env=environment(**{MARK: self.mark}, **(env or {})), text=True, **options)

    def __exit__(self, kind, *more):
        for pid in self.processes():
            if kind is not None or pid != self.pid:
                _kill(pid, signal.SIGKILL)
        super().__exit__(None if self.poll() is not None else kind, *more)

    def processes(self):
        """Return the living processes that this program started, itself among them."""
        needle = f"{MARK}={self.mark}".encode()
        return [pid for pid in _all() if needle in _read(pid, "environ").split(b"\0")]

    def has(self, name):
        """Whether one of its processes is this program."""
        return any(_read(pid, "comm") == f"{name}\n".encode() for pid in self.processes())

    def agent(self):
        """Return the agent's process, None as long as there is none."""
        for pid in self.processes():
            words = _read(pid, "cmdline").split(b"\0")
            if b"-I" in words and any(b"pushed:assembler" in word for word in words):
                return pid
        return None

    def finish(self, timeout=60):
        """Wait for the end; return (exit code, output, lines on stderr)."""
        out, err = self.communicate(timeout=timeout)
        return self.returncode, out, err.splitlines()

    def gone(self, within_s=20):
        """Whether all its processes end within some seconds."""
        deadline = time.monotonic() + within_s
        while self.processes():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True


def _all():
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def _read(pid, name):
    try:
        return pathlib.Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _kill(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


@contextlib.contextmanager
def loop_device(path, *options):
    if os.geteuid() != 0:
        lacking("loop devices need root")
    needs("losetup")
    done = subprocess.run(["losetup", "--show", "-f", *options, str(path)], capture_output=True, text=True)
    if done.returncode:
        lacking(f"no loop device here: {done.stderr.strip()}")
    try:
        yield done.stdout.strip()
    finally:
        subprocess.run(["losetup", "-d", done.stdout.strip()], check=True)


class Set:
    """A set under test, and what each of its versions must restore to."""

    def __init__(self, folder, base="db"):
        folder.mkdir(exist_ok=True)
        self.folder, self.base = folder, base
        self.name = str(folder / base)
        self.versions = {}  # number -> bytes

    def newest(self):
        return BackupSet(self.name).newest()

    def files(self):
        """Every file of the folder and its bytes, but for the lock, which stays for ever."""
        return {p.name: p.read_bytes() for p in self.folder.iterdir() if not p.name.endswith(".lock")}

    def check(self):
        """Every version restores to what it was made of, verify finds nothing, and nothing lies about."""
        assert self.newest() == max(self.versions, default=0)
        for number, data in self.versions.items():
            assert restored(self.name, number, self.folder / "restored.tmp") == data
        if self.versions:
            report = verify.verify(BackupSet(self.name))
            assert all(version.restores and not version.faults for version in report.versions)
        assert not [name for name in self.files() if name.endswith(".part")]
