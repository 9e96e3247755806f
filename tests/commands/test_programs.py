"""What is true of every launcher in bin/: help, version, descriptors that the caller closed."""

import os
import subprocess

import pytest
from conftest import ROOT

from blockdiff import __version__
from blockdiff.blocks import md5many

LAUNCHERS = sorted(path.name for path in (ROOT / "bin").iterdir())


@pytest.mark.parametrize("program", LAUNCHERS)
def test_help(run, program):
    done = run(program, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: ")
    assert program in done.stdout
    assert run(program, "-h").stdout == done.stdout


@pytest.mark.parametrize("program", LAUNCHERS)
def test_version(run, program):
    done = run(program, "--version")
    more = f"md5: {md5many.engine}\n" if program == "blockdiff" else ""
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{program}, version {__version__}\n{more}", "")


@pytest.mark.parametrize("program", LAUNCHERS)
def test_an_option_that_there_is_not(run, program):
    done = run(program, "--no-such-option", "word", "word")
    unknown = 3 if program == "blockdiff-check" else 2  # as Nagios' plugins
    assert (done.returncode, done.stdout) == (unknown, "")
    assert "--no-such-option" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_descriptors(run, tmp_path, closed):
    """What is said goes nowhere then, and not into a file that got such a number."""
    (tmp_path / "volume").write_bytes(os.urandom(100_000))

    def call(*words):
        script = f'exec "$@" {closed}'
        return subprocess.run(["sh", "-c", script, "sh", ROOT / "bin" / words[0], *words[1:]], cwd=tmp_path).returncode

    assert call("blockdiff-backup", "--verbose", "set", "volume") == 0
    assert call("blockdiff-backup", "set", "missing") == 30
    assert call("blockdiff-verify", "set") == 0
    assert call("blockdiff-merge", "--verbose", "set", "target") == 0
    assert (tmp_path / "target").read_bytes() == (tmp_path / "volume").read_bytes()
    assert call("cronlog", "-l", "log", "--", "sh", "-c", "echo one; exit 7") == 7
    assert "one" in (tmp_path / "log").read_text()


def test_a_dump_to_a_closed_standard_output(tmp_path):
    (tmp_path / "volume").write_bytes(os.urandom(100_000))
    words = [ROOT / "bin/blockdiff-dump", "--digests-out", "digests", "volume"]
    done = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert "standard output is closed" in done.stderr
    assert not (tmp_path / "digests").exists()
