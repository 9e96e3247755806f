"""Completion in real shells: what TAB makes of a line that is being typed."""

import contextlib
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time

import pytest
from lab.conftest import unavailable
from mdoc import ROOT, Page
from options import ORIGINAL
from programs import Program

from blockdiff.commands import programs

SCRIPTS = {
    "/opt/blockdiff/share/bash-completion/completions": "bash",
    "/opt/blockdiff/share/zsh/site-functions": "zsh",
    "/opt/blockdiff/share/fish/vendor_completions.d": "fish",
}
CASES = [
    ("blockdiff-verify im", "blockdiff-verify img"),  # a set: not img.1.gz, img.ver
    ("blockdiff_merge im", "blockdiff_merge img"),
    ("blockdiff verify sub/w", "blockdiff verify sub/web"),
    ("blockdiff-list su", "blockdiff-list sub/"),  # no set is called so, a folder is
    ("blockdiff-merge img fi", "blockdiff-merge img file.raw"),
    ("cronlog -t -- fi", "cronlog -t -- file.raw"),
    ("blockdiff-backup --with img fi", "blockdiff-backup --with img file.raw"),
    ("ssh-lvm-dump --digests-i", "ssh-lvm-dump --digests-in"),
    ("blockdiff ver", "blockdiff verify"),
    ("blockdiff-backup --compress zs", "blockdiff-backup --compress zstd"),
]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("img.1.gz", "img.1.md5", "img.ver", "sub/web.1.gz", "sub/web.ver", "file.raw", "two words.ver"):
        (tmp_path / name).touch()
    for suffix in ("4.gz", "9.gz", "4.keep", "7.md5.part", "7.gz", "lock"):  # holes, and 7 is being removed
        (tmp_path / "sub" / f"web.{suffix}").touch()
    return tmp_path


def environment(folder):
    path = os.pathsep.join((str(ROOT / "bin"), os.path.dirname(sys.executable), os.environ["PATH"]))
    return {"PATH": path, "HOME": str(folder), "TERM": "dumb", "LC_ALL": "C.UTF-8", "PS1": "", "PROMPT": ""}


def switched_on(shell):
    """Return the line of the page that switches completion on, for the scripts of this checkout."""
    (line,) = [
        block.replace(place, str(ROOT / "blockdiff/completion" / name))
        for block in Page("blockdiff.1").literal_blocks("Completion")
        for place, name in SCRIPTS.items()
        if name == shell and place in block
    ]
    return line


class Terminal:
    """A shell on a terminal, and somebody who types."""

    def __init__(self, words, folder):
        self._end, other = pty.openpty()
        os.set_inheritable(other, True)
        self._said = b""
        self._process = Program(words, stdin=other, stdout=other, stderr=other, cwd=folder, env=environment(folder))
        os.close(other)

    def type(self, text):
        os.write(self._end, text.encode())

    def answer(self, pattern):
        """Return what matches in all that was shown since the answer before."""
        deadline = time.monotonic() + 60
        while (match := re.search(pattern, self._said)) is None:
            assert time.monotonic() < deadline, self._said
            if select.select([self._end], [], [], 1)[0]:
                self._said += os.read(self._end, 65536)
        self._said = self._said[match.end() :]
        return match[1].decode()

    def close(self):
        self._process.kill()
        self._process.wait()
        os.close(self._end)


def typed(shell, options, begin, folder):
    """Return what each case's line is after TAB, its words joined by one blank."""
    if shutil.which(shell) is None:
        unavailable(f"{shell} is not installed")
    with contextlib.closing(Terminal([shell, *options], folder)) as terminal:
        terminal.type(f"{begin}\nshow() {{ printf '<%s>' \"$*\"; }}; printf '%s%s\\n' rea dy\n")
        terminal.answer(rb"(ready)")
        lines = []
        for line, _ in CASES:
            terminal.type(f"{line}\t\x01show \n")  # to the line's beginning: let it be shown, not run
            lines.append(terminal.answer(rb"\n<([^<>%]*)>"))
        return lines


def test_bash(folder):
    lines = typed("bash", ["--norc", "--noprofile", "-i"], switched_on("bash"), folder)
    assert lines == [after for _, after in CASES]


def test_zsh(folder):
    begin = f"{switched_on('zsh')}\nautoload -U compinit\ncompinit -u -D\nbindkey -e"
    lines = typed("zsh", ["-f", "-i"], begin, folder)
    assert lines == [after.rstrip("/") for _, after in CASES]  # zsh takes a slash back when the next key comes


def test_fish(folder):
    if shutil.which("fish") is None:
        unavailable("fish is not installed")
    asked = "".join(f"complete -C '{line}'\necho\n" for line, _ in CASES)
    script = f"{switched_on('fish')}\n{asked}complete cronlog"
    done = subprocess.run(["fish", "-c", script], cwd=folder, env=environment(folder), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *answers, loaded = done.stdout.split("\n\n")
    assert [answer.strip().partition("\t")[0] for answer in answers] == [after.split()[-1] for _, after in CASES]
    assert len(loaded.splitlines()) == 1  # each command has its own file, whichever of them are loaded


def test_every_program_is_completed():
    for path in (ROOT / "blockdiff/completion").glob("*/*"):
        assert {*programs.PROGRAMS, *ORIGINAL} <= set(re.findall(r"[\w-]+", path.read_text())), path


def test_a_name_with_a_blank_is_quoted(folder):
    with contextlib.closing(Terminal(["bash", "--norc", "--noprofile", "-i"], folder)) as terminal:
        terminal.type(f"{switched_on('bash')}\nshow() {{ printf '<%s>' \"$2\"; }}; printf '%s%s\\n' rea dy\n")
        terminal.answer(rb"(ready)")
        terminal.type("blockdiff-verify tw\t\x01show \n")
        assert terminal.answer(rb"\n<([^<>%]*)>") == "two words"
