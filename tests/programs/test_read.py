"""blockdiff-merge, blockdiff-verify and blockdiff-list as launched programs: output and exit codes."""

import hashlib
import json
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import termios
import time

import chains
import places
import pytest

from blockdiff import codecs

ROOT = places.ROOT
GOLDEN = places.GOLDEN
BLOCK = 512
LAUNCH = "import sys; from blockdiff.commands import programs; sys.argv[0] = 'blockdiff-{0}'; programs.main()"


def words(verb, *operands):
    return [sys.executable, "-c", LAUNCH.format(verb), *map(str, operands)]


def environment(folder):
    return dict(os.environ, PYTHONPATH=str(ROOT), XDG_STATE_HOME=str(folder / "state"), LC_ALL="C.UTF-8")


@pytest.fixture
def run(tmp_path):
    def call(verb, *operands, stdin=b"", cwd=None):
        done = subprocess.run(
            words(verb, *operands), input=stdin, capture_output=True, env=environment(tmp_path), cwd=cwd, timeout=60
        )
        done.out, done.err = done.stdout.decode(), done.stderr.decode()
        assert "Traceback" not in done.err, done.err
        return done

    return call


@pytest.fixture
def store(tmp_path):
    store = chains.new_set(tmp_path)
    volume = bytearray(os.urandom(30 * BLOCK))
    for number in range(3):
        volume[number * BLOCK : (number + 1) * BLOCK] = os.urandom(BLOCK)
        chains.write_version(store, bytes(volume), BLOCK, codecs.PLAIN)
    store.volume = bytes(volume)
    return store


def damage(store, number, place):
    path = pathlib.Path(store.path(number, ""))
    data = bytearray(path.read_bytes())
    data[place] ^= 0xFF
    path.write_bytes(data)


# merge


def test_merge_restores_the_newest(run, store, tmp_path):
    done = run("merge", store.name, tmp_path / "out")

    assert (done.returncode, done.err) == (0, "")
    assert "restored version 3" in done.out and f"{30 * BLOCK} bytes" in done.out
    assert (tmp_path / "out").read_bytes() == store.volume


def test_merge_is_quiet_when_asked(run, store, tmp_path):
    done = run("merge", "-q", "--to", "2", store.name, tmp_path / "out")

    assert (done.returncode, done.out, done.err) == (0, "", "")


def test_merge_names_what_it_reads(run, store, tmp_path):
    for option in ("-v", "--dry-run"):
        done = run("merge", option, store.name, tmp_path / "out")
        assert done.returncode == 0
        assert [line.split(":")[0] for line in done.out.splitlines()[:3]] == [f"read version {n}" for n in (3, 2, 1)]
        assert (tmp_path / "out").exists() == (option == "-v")
        (tmp_path / "out").unlink(missing_ok=True)
    assert "new file" in done.out


def test_merge_json(run, store, tmp_path):
    told = json.loads(run("merge", "--json", store.name, tmp_path / "out").out)

    assert told["version"] == 3 and told["size"] == 30 * BLOCK and told["error"] is None
    assert [file["version"] for file in told["files"]] == [3, 2, 1]


def test_merge_refuses_a_file_with_something_in_it(run, store, tmp_path):
    (tmp_path / "out").write_bytes(b"precious")

    done = run("merge", store.name, tmp_path / "out")

    assert done.returncode == 35 and "8 bytes" in done.err and "--force" in done.err
    assert done.err.startswith("blockdiff: ") and done.out == ""
    assert run("merge", "--force", store.name, tmp_path / "out").returncode == 0
    assert (tmp_path / "out").read_bytes() == store.volume


def test_merge_that_fails_says_what_is_right(run, store, tmp_path):
    damage(store, 1, 4 + 20 * (8 + BLOCK) + 8)

    done = run("merge", store.name, tmp_path / "out")
    told = json.loads(run("merge", "--json", store.name, tmp_path / "out2").out)

    assert done.returncode == 53 and f"bytes {20 * BLOCK} to {21 * BLOCK - 1}" in done.err
    assert "bytes of it are right" in done.err and "restored" not in done.out.replace("was not restored", "")
    assert not (tmp_path / "out").exists() and not (tmp_path / "out2").exists()
    assert told["error"]["exit_code"] == 53
    assert told["right"]["bytes"] == sum(end - start for start, end in told["right"]["ranges"])


@pytest.mark.parametrize(
    "operands, code",
    [
        (["{none}", "{out}"], 10),
        (["--to", "9", "{set}", "{out}"], 11),
        (["{set}", "{folder}"], 35),
        (["{set}", "{out}", "third"], 2),
        ([], 2),
        (["--to", "0", "{set}", "{out}"], 2),
        (["--to", "1", "{out}"], 2),
        (["--digests", "x", "{set}", "{out}"], 2),
    ],
)
def test_merge_exit_codes(operands, code, run, store, tmp_path):
    places = {"none": tmp_path / "none", "set": store.name, "out": tmp_path / "out", "folder": tmp_path}

    done = run("merge", *(operand.format(**places) for operand in operands))

    assert done.returncode == code and done.err and not (tmp_path / "out").exists()


def test_merge_without_ver(run, store, tmp_path):
    os.unlink(store.name + ".ver")
    assert run("merge", store.name, tmp_path / "out").returncode == 14


def test_merge_with_a_version_missing(run, store, tmp_path):
    for suffix in store.listing().versions[2]:
        os.unlink(store.path(2, suffix))
    done = run("merge", store.name, tmp_path / "out")
    assert done.returncode == 52 and "version 2 is missing" in done.err


def test_merge_with_something_to_look_at_ends_with_3(run, store, tmp_path):
    store.publish_ver(2)
    done = run("merge", store.name, tmp_path / "out")
    assert done.returncode == 3 and done.err.startswith("blockdiff: warning: ")


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


def test_merge_of_a_stream(run, tmp_path):
    target = tmp_path / "out"
    for number in (1, 2, 3):
        path = GOLDEN / "raw" / f"raw.{number}"
        done = run("merge", "--digests", f"{path}.md5", target, stdin=path.read_bytes())
        assert (done.returncode, done.out, done.err) == (0, "", "")
    told = json.loads((GOLDEN / "expected.json").read_text())["raw"]["versions"][-1]
    assert hashlib.sha256(target.read_bytes()).hexdigest() == told["sha256"]


def test_merge_of_a_torn_stream(run, tmp_path):
    data = (GOLDEN / "raw" / "raw.1").read_bytes()
    assert run("merge", tmp_path / "out", stdin=data[:3]).returncode == 51
    assert run("merge", tmp_path / "out", stdin=data[:530]).returncode == 51
    assert run("merge", tmp_path / "out", stdin=data[:4] + b"\1" * 8 + data).returncode == 50
    assert run("merge", "--digests", GOLDEN / "raw" / "raw.2.md5", tmp_path / "out", stdin=data).returncode == 53
    assert not (tmp_path / "out").exists()


def test_merge_of_a_compressed_stream(run, tmp_path):
    done = run("merge", tmp_path / "out", stdin=(GOLDEN / "grow" / "grow.1.gz").read_bytes())
    assert done.returncode == 50 and "gunzip -c" in done.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_merge_that_is_interrupted_leaves_no_target(number, tmp_path):
    process = subprocess.Popen(
        words("merge", tmp_path / "out"), stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(tmp_path)
    )
    part = tmp_path / "out.blockdiff-part"
    try:
        blocks = [os.urandom(65536) for _ in range(40)]
        process.stdin.write(chains.payload_of(blocks, range(40), 65536))
        process.stdin.flush()
        for _ in range(600):
            if part.exists():
                break
            time.sleep(0.05)
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()

    assert process.returncode == 128 + number and err.startswith(b"blockdiff: interrupted by")
    assert not (tmp_path / "out").exists()


# verify


def test_verify_of_a_whole_set(run, store):
    done = run("verify", store.name)

    assert (done.returncode, done.err) == (0, "")
    assert "versions that restore: 1-3" in done.out and "do not" not in done.out


def test_verify_names_what_is_lost(run, store):
    damage(store, 1, 4 + 20 * (8 + BLOCK) + 8)
    damage(store, 3, 4 + 8)

    done = run("verify", store.name)
    told = json.loads(run("verify", "--json", store.name).out)

    assert done.returncode == told["exit_code"] == 53
    assert "versions that do not: 1-3" in done.out and f"{20 * BLOCK}-{21 * BLOCK - 1}" in done.out
    assert len(done.err.splitlines()) == 2 and all(
        line.startswith("blockdiff: version") for line in done.err.splitlines()
    )
    assert told["restorable"] == []
    assert [v["lost"]["ranges"] for v in told["versions"]] == [
        [[20 * BLOCK, 21 * BLOCK]],
        [[20 * BLOCK, 21 * BLOCK]],
        [[2 * BLOCK, 3 * BLOCK], [20 * BLOCK, 21 * BLOCK]],
    ]
    assert [f["error"] for v in told["versions"] for f in v["faults"]] == ["DigestMismatch"] * 2


def test_verify_of_files_that_only_speed_things_up(run, store):
    os.unlink(store.path(2, ".xxh128"))
    done = run("verify", "-q", store.name)
    assert (done.returncode, done.out) == (3, "") and "xxh128" in done.err


def test_verify_new_reads_only_what_is_new(run, store):
    assert json.loads(run("verify", "--json", "--new", store.name).out)["read"] > 0
    chains.write_version(store, store.volume + b"more", BLOCK)
    told = json.loads(run("verify", "--json", "--new", store.name).out)

    assert [v["proved_before"] for v in told["versions"]] == [True, True, True, False]
    assert all(v["restores"] for v in told["versions"])
    assert set(os.listdir(store.folder)) >= {"vol.1", "vol.ver"}
    assert not [name for name in os.listdir(store.folder) if "verif" in name]
    told = json.loads(run("verify", "--json", store.name).out)
    assert not any(v["proved_before"] for v in told["versions"])


def test_verify_exit_codes(run, store, tmp_path):
    assert run("verify", tmp_path / "none").returncode == 10
    assert run("verify", "--to", "7", store.name).returncode == 11
    assert run("verify").returncode == 2
    os.unlink(store.name + ".ver")
    assert run("verify", store.name).returncode == 14


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
