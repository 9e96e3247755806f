"""blockdiff-merge as a launched program: output and exit codes."""

import hashlib
import json
import os
import signal
import subprocess
import time

import chains
import places
import pytest
from verbs import BLOCK, damage, environment, words

from blockdiff.commands import text

GOLDEN = places.GOLDEN


def test_merge_restores_the_newest(run_verb, plain_set, tmp_path):
    done = run_verb("merge", plain_set.name, tmp_path / "out")

    assert (done.returncode, done.err) == (0, "")
    assert "restored version 3" in done.out and text.size(30 * BLOCK) in done.out
    assert (tmp_path / "out").read_bytes() == plain_set.volume


def test_merge_is_quiet_when_asked(run_verb, plain_set, tmp_path):
    done = run_verb("merge", "-q", "--to", "2", plain_set.name, tmp_path / "out")

    assert (done.returncode, done.out, done.err) == (0, "", "")


def test_merge_names_what_it_reads(run_verb, plain_set, tmp_path):
    for option in ("-v", "--dry-run"):
        done = run_verb("merge", option, plain_set.name, tmp_path / "out")
        assert done.returncode == 0
        assert [line.split(":")[0] for line in done.out.splitlines()[:3]] == [f"read version {n}" for n in (3, 2, 1)]
        assert (tmp_path / "out").exists() == (option == "-v")
        (tmp_path / "out").unlink(missing_ok=True)
    read = sum(os.path.getsize(plain_set.path(number, "")) for number in (1, 2, 3))
    exact = run_verb("merge", "-v", plain_set.name, tmp_path / "out").out.splitlines()[-1]
    assert exact.endswith(f": {30 * BLOCK} bytes ({30 * BLOCK} bytes written, 0 bytes zeros, {read} bytes read)")
    assert "new file" in done.out and f"write version 3, {text.size(30 * BLOCK)}, to " in done.out


def test_merge_json(run_verb, plain_set, tmp_path):
    told = json.loads(run_verb("merge", "--json", plain_set.name, tmp_path / "out").out)

    assert told["version"] == 3 and told["size"] == 30 * BLOCK and told["error"] is None
    assert [file["version"] for file in told["files"]] == [3, 2, 1]


def test_merge_refuses_a_file_with_something_in_it(run_verb, plain_set, tmp_path):
    (tmp_path / "out").write_bytes(b"precious")

    done = run_verb("merge", plain_set.name, tmp_path / "out")

    assert done.returncode == 35 and "8 bytes" in done.err and "--force" in done.err
    assert done.err.startswith("blockdiff: ") and done.out == ""
    assert run_verb("merge", "--force", plain_set.name, tmp_path / "out").returncode == 0
    assert (tmp_path / "out").read_bytes() == plain_set.volume


def test_merge_that_fails_says_what_is_right(run_verb, plain_set, tmp_path):
    damage(plain_set, 1, 4 + 20 * (8 + BLOCK) + 8)

    done = run_verb("merge", plain_set.name, tmp_path / "out")
    told = json.loads(run_verb("merge", "--json", plain_set.name, tmp_path / "out2").out)

    assert done.returncode == 53 and f"bytes {20 * BLOCK} to {21 * BLOCK - 1}" in done.err
    assert "of it are right: bytes " in done.err and "restored" not in done.out.replace("was not restored", "")
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
def test_merge_exit_codes(operands, code, run_verb, plain_set, tmp_path):
    places = {"none": tmp_path / "none", "set": plain_set.name, "out": tmp_path / "out", "folder": tmp_path}

    done = run_verb("merge", *(operand.format(**places) for operand in operands))

    assert done.returncode == code and done.err and not (tmp_path / "out").exists()


def test_merge_without_ver(run_verb, plain_set, tmp_path):
    os.unlink(plain_set.name + ".ver")
    assert run_verb("merge", plain_set.name, tmp_path / "out").returncode == 14


def test_merge_with_a_version_missing(run_verb, plain_set, tmp_path):
    for suffix in plain_set.listing().versions[2]:
        os.unlink(plain_set.path(2, suffix))
    done = run_verb("merge", plain_set.name, tmp_path / "out")
    assert done.returncode == 52 and "version 2 is missing" in done.err


def test_merge_with_something_to_look_at_ends_with_3(run_verb, plain_set, tmp_path):
    plain_set.publish_ver(2)
    done = run_verb("merge", plain_set.name, tmp_path / "out")
    assert done.returncode == 3 and done.err.startswith("blockdiff: warning: ")


def test_merge_of_a_stream(run_verb, tmp_path):
    target = tmp_path / "out"
    for number in (1, 2, 3):
        path = GOLDEN / "raw" / f"raw.{number}"
        done = run_verb("merge", "--digests", f"{path}.md5", target, stdin=path.read_bytes())
        assert (done.returncode, done.out, done.err) == (0, "", "")
    told = json.loads((GOLDEN / "expected.json").read_text())["raw"]["versions"][-1]
    assert hashlib.sha256(target.read_bytes()).hexdigest() == told["sha256"]


def test_merge_of_a_torn_stream(run_verb, tmp_path):
    data = (GOLDEN / "raw" / "raw.1").read_bytes()
    assert run_verb("merge", tmp_path / "out", stdin=data[:3]).returncode == 51
    assert run_verb("merge", tmp_path / "out", stdin=data[:530]).returncode == 51
    assert run_verb("merge", tmp_path / "out", stdin=data[:4] + b"\1" * 8 + data).returncode == 50
    assert run_verb("merge", "--digests", GOLDEN / "raw" / "raw.2.md5", tmp_path / "out", stdin=data).returncode == 53
    assert not (tmp_path / "out").exists()


def test_merge_of_a_compressed_stream(run_verb, tmp_path):
    done = run_verb("merge", tmp_path / "out", stdin=(GOLDEN / "grow" / "grow.1.gz").read_bytes())
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


# where the target is


@pytest.mark.parametrize("target", ["nas:r.img", "root@nas:r.img", "[::1]:r.img", "nas:", ":r.img", "no host:/r.img"])
def test_a_colon_before_any_slash_ends_a_host(run_verb, plain_set, target, tmp_path):
    (tmp_path / "here").mkdir()
    for operands, stdin in ([plain_set.name, target], b""), ([target], b"\0\2\0\0"):
        done = run_verb("merge", *operands, cwd=tmp_path / "here", stdin=stdin)
        assert done.returncode == 2 and done.out == "" and f"./{target}" in done.err
    assert os.listdir(tmp_path / "here") == []


def test_a_file_with_a_colon_is_written_with_its_folder(run_verb, plain_set, tmp_path):
    assert run_verb("merge", plain_set.name, "./nas:r.img", cwd=tmp_path).returncode == 0
    assert (tmp_path / "nas:r.img").read_bytes() == plain_set.volume
    assert run_verb("merge", plain_set.name, tmp_path / "a:b").returncode == 0


def test_a_diff_on_stdin_is_for_no_host(run_verb, tmp_path):
    done = run_verb("merge", "nas:/r.img", stdin=b"\0\2\0\0")
    assert done.returncode == 2 and "this machine only" in done.err


@pytest.mark.parametrize("option", [["--sudo"], ["--rsh", "ssh"], ["--remote-python", "x"], ["--bwlimit", "1M"], ["--rescan"]])
def test_options_for_a_host_need_one(run_verb, plain_set, option, tmp_path):
    for operands in [plain_set.name, tmp_path / "out"], [plain_set.name, "-"], [tmp_path / "out"]:
        done = run_verb("merge", *option, *operands)
        assert done.returncode == 2 and f"{option[0]} is for a target on a host, HOST:/PATH" in done.err
    assert not (tmp_path / "out").exists()


# a pipe


def test_a_pipe_gets_the_volume_and_nothing_else(run_verb, plain_set, tmp_path):
    for options in ([], ["-v"], ["-q"]):
        done = subprocess.run(
            words("merge", *options, plain_set.name, "-"), capture_output=True, env=environment(tmp_path), check=True
        )
        assert done.stdout == plain_set.volume
        assert (b"restored version 3" in done.stderr) == (options != ["-q"])
    done = subprocess.run(
        words("merge", "--to", "1", "--dry-run", plain_set.name, "-"), capture_output=True, env=environment(tmp_path), check=True
    )
    assert done.stdout == b"" and b"write version 1" in done.stderr
    assert not (tmp_path / "-").exists()


def test_a_file_named_as_a_pipe(run_verb, plain_set, tmp_path):
    assert run_verb("merge", plain_set.name, "./-", cwd=tmp_path).returncode == 0
    assert (tmp_path / "-").read_bytes() == plain_set.volume


def test_no_terminal_and_nothing_that_is_closed(plain_set, tmp_path):
    master, slave = os.openpty()
    try:
        done = subprocess.run(
            words("merge", plain_set.name, "-"), stdout=slave, stderr=subprocess.PIPE, env=environment(tmp_path)
        )
        assert done.returncode == 2 and b"standard output, and that is a terminal" in done.stderr
    finally:
        os.close(slave)
        os.close(master)
    line = ["sh", "-c", 'exec "$@" >&-', "sh", *words("merge", plain_set.name, "-")]
    done = subprocess.run(line, stderr=subprocess.PIPE, env=environment(tmp_path))
    assert done.returncode == 2 and b"standard output, and that is closed" in done.stderr
    done = subprocess.run(words("merge", "--json", plain_set.name, "-"), capture_output=True, env=environment(tmp_path))
    assert done.returncode == 2 and b"--json" in done.stderr


def test_a_pipe_that_ends_early_or_has_no_room(plain_set, tmp_path):
    folder = tmp_path / "large"
    folder.mkdir()
    backup_set = chains.new_set(folder)
    chains.write_version(backup_set, os.urandom(1 << 20), 4096)
    with open("/dev/full", "wb") as full:
        done = subprocess.run(words("merge", backup_set.name, "-"), stdout=full, stderr=subprocess.PIPE, env=environment(tmp_path))
    assert done.returncode == 36 and b"writing to standard output failed: No space left on device" in done.stderr
    process = subprocess.Popen(
        words("merge", backup_set.name, "-"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(tmp_path)
    )
    process.stdout.read(10)
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 36 and b"Broken pipe" in said


def test_damage_is_told_on_stderr_and_by_the_exit_code(plain_set, tmp_path):
    damage(plain_set, 1, 20 * (BLOCK + 8))
    done = subprocess.run(words("merge", plain_set.name, "-"), capture_output=True, env=environment(tmp_path))
    assert done.returncode == 53 and plain_set.volume.startswith(done.stdout)
    assert b"what came before is right" in done.stderr and b"of it are right: bytes 0-" in done.stderr
