"""blockdiff-merge, blockdiff-verify and blockdiff-list as launched programs: output and exit codes."""

import json
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
import verbs
from verbs import BLOCK, environment, words

from blockdiff import codecs

GOLDEN = places.GOLDEN


@pytest.fixture
def run(tmp_path):
    return verbs.runner(tmp_path)


@pytest.fixture
def store(tmp_path):
    return verbs.plain_set(tmp_path)


@pytest.mark.parametrize("name", ["vol with space", "-dash", "ünï", "a'b\"c", "db.11"])
def test_odd_names(name, run, tmp_path):
    store = chains.new_set(tmp_path, name)
    chains.write_version(store, b"content", BLOCK)

    done = run("merge", "--", name, "-out put", cwd=tmp_path)

    assert done.returncode == 0 and (tmp_path / "-out put").read_bytes() == b"content"
    assert run("verify", "--", name, cwd=tmp_path).returncode == 0
    assert run("list", "--", name, cwd=tmp_path).returncode == 0


def test_a_name_that_is_no_text(run, tmp_path):
    name = os.fsdecode(b"v\xff\x1b[2J")
    chains.write_version(chains.new_set(tmp_path, name), b"content", BLOCK)

    for done in (
        run("list", tmp_path),
        run("verify", tmp_path / name),
        run("merge", tmp_path / name, tmp_path / "o"),
    ):
        assert done.returncode == 0 and "\x1b" not in done.out and "v\\xff" in done.out


# list


def test_list_of_a_set_and_of_a_folder(run, store, tmp_path):
    chains.write_version(chains.new_set(tmp_path, "other"), b"x", BLOCK)

    one, both = run("list", store.name), run("list", tmp_path)

    assert (one.returncode, one.err, both.returncode, both.err) == (0, "", 0, "")
    lines = one.out.splitlines()
    assert lines[0].startswith(f"{store.name}: 3 versions") and len(lines) == 5
    assert lines[1].split() == ["version", "kind", "time", "size", "changed", "stored", "consistency", "restores"]
    assert lines[2].split()[:2] == ["1", "full"] and lines[4].split()[:2] == ["3", "incremental"]
    assert both.out.count("versions,") == 2
    assert run("list", cwd=tmp_path).out.count("versions,") == 2


def test_list_json(run, store):
    told = json.loads(run("list", "--json", store.name).out)

    (one,) = told["sets"]
    assert one["newest"] == 3 and [v["changed_blocks"] for v in one["versions"]] == [30, 1, 1]
    assert all(v["restores"] and v["size"] == 30 * BLOCK for v in one["versions"])


def test_list_tells_what_does_not_restore(run, store):
    os.unlink(store.path(2, ""))
    done = run("list", store.name)
    assert done.returncode == 0
    assert [line.split("NO: ")[-1][:9] for line in done.out.splitlines()[3:]] == [f"{store.name}"[:9], "version 2"]


def test_list_exit_codes(run, store, tmp_path):
    assert run("list", tmp_path / "none").returncode == 10
    (tmp_path / "empty").mkdir()
    assert run("list", tmp_path / "empty").out == "no sets\n"
    os.unlink(store.name + ".ver")
    assert run("list", store.name).returncode == 14


# on a terminal


def test_progress_on_a_terminal(tmp_path):
    """stderr is a terminal: the bar is there and gone at the end, and the result stands on stdout."""
    store = chains.new_set(tmp_path)
    chains.write_version(store, os.urandom(8 << 20), 65536, codecs.GZIP)
    controller, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    try:
        process = subprocess.Popen(
            words("merge", store.name, tmp_path / "out"),
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


def test_lzop_that_is_not_there(run, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    done = subprocess.run(
        words("merge", GOLDEN / "lzop" / "lzop", tmp_path / "out"),
        capture_output=True,
        env=dict(environment(tmp_path), PATH=str(tmp_path)),
    )
    assert done.returncode == 16 and b"lzop" in done.stderr


def test_lzop(run, tmp_path):
    if shutil.which("lzop") is None:
        pytest.skip("lzop is not installed")
    assert run("verify", GOLDEN / "lzop" / "lzop").returncode == 0
