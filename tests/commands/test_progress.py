"""What a person at a terminal sees while it works, whatever the terminal is."""

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios
import time

import pytest
from conftest import OURS
from mdoc import ROOT
from programs import Program

from blockdiff.commands import progress


class Screen:
    """A terminal with a program on it."""

    def __init__(self, words, columns, **environment):
        self._end, other = pty.openpty()
        self.resize(columns)
        inherited = {name: value for name, value in os.environ.items() if name not in OURS}
        path = os.pathsep.join((os.path.dirname(sys.executable), os.environ["PATH"]))
        environment = {**inherited, "PATH": path, "TERM": "xterm-256color", **environment}
        words = [ROOT / "bin" / words[0], *map(str, words[1:])]
        self._process = Program(words, stdin=other, stdout=other, stderr=other, env=environment)
        os.close(other)
        self.shown = ""

    def resize(self, columns):
        fcntl.ioctl(self._end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def until(self, pattern):
        """Read on until something is shown; return all that was shown meanwhile."""
        begin, deadline = len(self.shown), time.monotonic() + 60
        while not re.search(pattern, self.shown[begin:]):
            assert time.monotonic() < deadline, self.shown
            if select.select([self._end], [], [], 1)[0]:
                self.shown += os.read(self._end, 65536).decode()
        return self.shown[begin:]

    def end(self):
        """Read all the rest; return the exit code."""
        while True:
            try:
                data = os.read(self._end, 65536)
            except OSError:  # EIO: nobody has it open any more
                break
            self.shown += data.decode()
        os.close(self._end)
        return self._process.wait()


    def close(self):
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


@pytest.fixture
def on():
    """Return a function that makes a Screen."""
    with contextlib.ExitStack() as held:
        yield lambda *words, **options: held.enter_context(contextlib.closing(Screen(*words, **options)))


@pytest.fixture
def volumes(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(os.urandom(6 << 20))
    return tmp_path


def test_a_terminal_that_shrinks_under_two_sources(on, volumes):
    one, two = (volumes / "a", volumes / "one"), (volumes / "b", volumes / "two")
    screen = on(["blockdiff-backup", "--bwlimit", "4M", "--with", *two, *one], 100)
    shown = screen.until(r"\r2 sets: +\d+%[^\r]* [\d.]+M/6\.00M \[[^\r]*B/s")
    assert all(len(line) < 100 for line in re.split(r"[\r\n]+", shown))
    screen.resize(24)
    screen.until(r"\r[^\r]*\r")  # what was being written may still be as wide as before
    before = len(screen.shown)
    assert screen.end() == 0
    bars, _, _ = screen.shown[before:].partition("backup completed")
    assert all(len(line) < 24 for line in bars.split("\r"))
    assert "\x1b" not in screen.shown
    done, *versions = screen.shown.split("\r\n")[-4:-1]
    assert done.endswith("backup completed successfully")
    assert [line[:13] for line in versions] == ["version 1 of "] * 2


@pytest.mark.parametrize("columns", [2, 7, 40])
def test_every_width(on, volumes, columns):
    screen = on(["blockdiff-backup", volumes / "a", volumes / "one"], columns)
    assert screen.end() == 0
    bars, _, _ = screen.shown.partition("backup completed")
    assert all(len(line) <= columns for line in re.split(r"[\r\n]+", bars.partition("\n")[2]))
    assert "\x1b" not in screen.shown


@pytest.mark.parametrize(
    "environment, shown", [({"NO_COLOR": "1"}, True), ({"TERM": "dumb"}, False), ({"TERM": "vt52"}, True)]
)
def test_no_escape_codes_and_nothing_at_all_on_a_dumb_terminal(on, volumes, environment, shown):
    screen = on(["blockdiff-backup", volumes / "a", volumes / "one"], 80, **environment)
    assert screen.end() == 0
    assert "\x1b" not in screen.shown
    assert bool(re.search(r"\ra: +\d+%", screen.shown)) == shown
    assert shown or "\r" not in screen.shown.replace("\r\n", "")


@pytest.mark.parametrize("words", [["blockdiff", "--help"], ["blockdiff-backup", "-h"], ["blockdiff", "verfy"]])
@pytest.mark.parametrize("columns", [1, 20])
def test_help_on_a_narrow_terminal(on, words, columns):
    screen = on(words, columns, COLUMNS=str(columns), NO_COLOR="1")
    assert screen.end() == (2 if "verfy" in words else 0)
    assert screen.shown.startswith("Usage: blockdiff")
    assert "\x1b" not in screen.shown and "Traceback" not in screen.shown


def test_a_line_of_text_makes_its_own_line(capsys, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress.progress(1000, "home") as tell:
        tell(500)
        progress.line("a warning")
        tell(500)
    shown = capsys.readouterr().err
    assert re.match(r"\rhome: [^\n]*\r +\ra warning\n", shown)
