"""Room is looked at before a restore, and a restore that fails says what it left and how to go on."""

import os
import subprocess

import chains
import pytest
from conftest import ROOT
from devices import mounted

from blockdiff.printable import size

BLOCK = 4096
ROOM = 256 * 1024


@pytest.fixture
def small(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    with mounted("tmpfs", tmp_path / "small", "-o", f"size={ROOM}") as folder:
        yield folder


def new_set(folder, volume):
    backup_set = chains.new_set(folder)
    chains.write_version(backup_set, volume, BLOCK)
    return backup_set.name


def test_what_cannot_fit_is_not_begun(run, small, tmp_path):
    name = new_set(tmp_path, bytes(4 * ROOM) + os.urandom(2 * ROOM) + bytes(ROOM))

    for options in ([], ["--dry-run"]):
        done = run("blockdiff-merge", *options, name, small / "out")
        assert done.returncode == 13, done.stderr
        assert f"no room to write {small}/out: it takes {size(2 * ROOM - BLOCK)} or more" in done.stderr
        assert f"and {size(ROOM)} are free" in done.stderr and "nothing was written" in done.stderr
        assert os.listdir(small) == []


def test_zeros_take_no_room(run, small, tmp_path):
    volume = bytes(8 * ROOM) + os.urandom(ROOM // 2) + bytes(8 * ROOM)
    name = new_set(tmp_path, volume)

    assert run("blockdiff-merge", "--dry-run", name, small / "out").returncode == 0
    assert run("blockdiff-merge", name, small / "out").returncode == 0
    assert (small / "out").read_bytes() == volume


def test_what_a_dead_run_left_makes_room(run, small, tmp_path):
    name = new_set(tmp_path, os.urandom(ROOM - 2 * BLOCK))
    (small / "out.blockdiff-part").write_bytes(b"x" * (ROOM - BLOCK))

    assert run("blockdiff-merge", name, small / "out").returncode == 0
    assert os.listdir(small) == ["out"]


def test_a_full_disk_says_what_is_left_and_where(run, small, tmp_path):
    name = new_set(tmp_path, os.urandom(2 * ROOM))

    done = run("blockdiff-merge", "--force", name, small / "out")

    assert done.returncode == 36 and "No space left" in done.stderr
    part = small / "out.blockdiff-part"
    taken = part.stat().st_blocks * 512
    assert f"{part} is left and takes {taken} bytes; running again replaces it, rm frees them" in done.stderr
    assert os.listdir(small) == [part.name]


def test_a_file_that_is_written_in_place_says_so(run, tmp_path):
    name = new_set(tmp_path, os.urandom(9 * BLOCK))
    with open(name + ".1.gz", "r+b") as file:
        file.seek(2 * BLOCK)
        file.write(b"damage")
    (tmp_path / "out").write_bytes(b"old")

    done = run("blockdiff-merge", "--force", name, tmp_path / "out")

    assert done.returncode >= 50
    assert f"{tmp_path}/out is partly written; running again writes all of it" in done.stderr


def test_a_stream_that_is_torn_says_what_is_left(run, tmp_path):
    payload = chains.payload_of([os.urandom(BLOCK)] * 3, range(3), BLOCK)

    done = run("blockdiff-merge", tmp_path / "out", input=payload[:-BLOCK], text=False)

    assert done.returncode == 51
    assert b"out.blockdiff-part is left and takes" in done.stderr
    os.truncate(tmp_path / "out.blockdiff-part", 0)
    assert run("blockdiff-merge", tmp_path / "out", input=payload, text=False).returncode == 0


def test_a_name_that_was_taken_meanwhile(tmp_path):
    """The version is whole under the temporary name: that is what is said, and nothing else."""
    name = new_set(tmp_path, os.urandom(900 * BLOCK))
    words = [ROOT / "bin" / "blockdiff-merge", name, tmp_path / "out"]
    with subprocess.Popen(
        ["strace", "-qq", "-o", tmp_path / "trace", "-e", "inject=link,linkat:error=EEXIST", *words],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        _, err = process.communicate(timeout=60)
    if "ptrace" in err:
        pytest.skip("no tracing here")

    assert process.returncode == 35 and "it was created meanwhile" in err
    assert f"{tmp_path}/out.blockdiff-part is complete; rename it" in err
    assert "is not version" not in err and "descriptor" not in err


def test_a_temporary_file_of_somebody_else_is_not_written(run, tmp_path):
    name = new_set(tmp_path, b"secret" * BLOCK)
    part = tmp_path / "out.blockdiff-part"
    (tmp_path / "theirs").write_bytes(b"theirs")
    part.hardlink_to(tmp_path / "theirs")

    for options in ([], ["--dry-run"], ["--force"]):
        done = run("blockdiff-merge", *options, name, tmp_path / "out")
        assert done.returncode == 35 and "was not made by a restore of this user" in done.stderr
    assert (tmp_path / "theirs").read_bytes() == b"theirs"
    part.unlink()
    if os.geteuid() == 0:
        part.touch(0o666)
        os.chown(part, 12345, -1)
        assert run("blockdiff-merge", name, tmp_path / "out").returncode == 35


def test_where_no_file_can_be_made_a_dry_run_says_the_same(run, tmp_path):
    name = new_set(tmp_path, b"x")
    with mounted("tmpfs", tmp_path / "small", "-o", "ro") as folder:
        said = {run("blockdiff-merge", *options, name, folder / "out").stderr for options in ([], ["--dry-run"])}
    assert said == {f"blockdiff: refusing to write to {folder}/out: Read-only file system\n"}
