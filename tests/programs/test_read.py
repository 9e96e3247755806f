"""Names of any kind, a terminal, and lzop, for the launched programs that read a set."""

import os
import pty
import re
import select
import shutil
import subprocess
import termios

import chains
import places
import pytest
from verbs import BLOCK, environment, words

from blockdiff import codecs

GOLDEN = places.GOLDEN


@pytest.mark.parametrize("name", ["vol with space", "-dash", "ünï", "a'b\"c", "db.11"])
def test_odd_names(name, run_verb, tmp_path):
    backup_set = chains.new_set(tmp_path, name)
    chains.write_version(backup_set, b"content", BLOCK)

    done = run_verb("merge", "--", name, "-out put", cwd=tmp_path)

    assert done.returncode == 0 and (tmp_path / "-out put").read_bytes() == b"content"
    assert run_verb("verify", "--", name, cwd=tmp_path).returncode == 0
    assert run_verb("list", "--", name, cwd=tmp_path).returncode == 0


def test_a_name_that_is_no_text(run_verb, tmp_path):
    name = os.fsdecode(b"v\xff\x1b[2J")
    chains.write_version(chains.new_set(tmp_path, name), b"content", BLOCK)

    for done in (
        run_verb("list", tmp_path),
        run_verb("verify", tmp_path / name),
        run_verb("merge", tmp_path / name, tmp_path / "o"),
    ):
        assert done.returncode == 0 and "\x1b" not in done.out and "v\\xff" in done.out


# on a terminal


def test_progress_on_a_terminal(tmp_path):
    """stderr is a terminal: the bar is there and gone at the end, and the result stands on stdout."""
    backup_set = chains.new_set(tmp_path)
    chains.write_version(backup_set, os.urandom(8 << 20), 65536, codecs.GZIP)
    controller, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    try:
        process = subprocess.Popen(
            words("merge", backup_set.name, tmp_path / "out"),
            stdout=subprocess.PIPE,
            stderr=terminal,
            env={**environment(tmp_path), "TERM": "xterm"},
        )
        os.close(terminal)
        shown = b""
        while select.select([controller], [], [], 30)[0]:
            try:
                data = os.read(controller, 65536)
            except OSError:  # the other end is closed
                break
            if not data:
                break
            shown += data
        out, _ = process.communicate(timeout=30)
    finally:
        os.close(controller)

    assert process.returncode == 0 and b"restored version 1" in out
    assert re.search(rb"\rrestore: +\d+%[^\r]*/8\.00M", shown)


def test_lzop_that_is_not_there(run_verb, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    done = subprocess.run(
        words("merge", GOLDEN / "lzop" / "lzop", tmp_path / "out"),
        capture_output=True,
        env=dict(environment(tmp_path), PATH=str(tmp_path)),
    )
    assert done.returncode == 16 and b"lzop" in done.stderr


def test_lzop(run_verb, tmp_path):
    if shutil.which("lzop") is None:
        pytest.skip("lzop is not installed")
    assert run_verb("verify", GOLDEN / "lzop" / "lzop").returncode == 0
