"""What is at a target's path; and a name of a set is refused by every path and with every option."""

import os
import pathlib
import subprocess

import chains
import pytest

from blockdiff import restore
from blockdiff.errors import TargetRefused
from blockdiff.formats import names
from blockdiff.target import precheck
from blockdiff.target.state import DEVICE, FILE, NEW, TargetState
from blockdiff.target.writer import Target

BLOCK = 512
MIB = 1024 * 1024
MEMBERS = [
    "img.ver",
    "img.ver.part",
    "img.lock",
    "img.2",
    "img.3",
    "img.2.gz",
    "img.9.zst",
    "img.1.json",
    "img.2.gz.part",
]


@pytest.fixture
def backup_set(tmp_path):
    backup_set = chains.new_set(tmp_path, "img")
    chains.write_version(backup_set, b"x" * 5000, BLOCK)
    return backup_set


def state(folder):
    return {path.name: path.read_bytes() for path in pathlib.Path(folder).iterdir() if path.is_file()}


@pytest.mark.parametrize("name", MEMBERS)
def test_a_name_of_the_set_is_refused(name, backup_set, tmp_path):
    before = state(tmp_path)

    for options in ({}, {"dry_run": True}, {"force": True}):
        with pytest.raises(TargetRefused, match=r"its name is one of the set .*/img\b"):
            restore.restore(backup_set, 1, str(tmp_path / name), **options)

    assert state(tmp_path) == before


def test_the_program_refuses_it(run, backup_set, tmp_path):
    payload = chains.payload_of([b"y" * BLOCK], [0], BLOCK)
    for name in ("img.2", "img.ver"):
        done = run("blockdiff-merge", "--force", "img", name, cwd=tmp_path)
        assert done.returncode == 35 and "its name is one of the set" in done.stderr
        done = run("blockdiff_merge", name, cwd=tmp_path, input=payload, text=False)
        assert done.returncode == 35
    assert (tmp_path / "img.ver").read_bytes() == b"1\n" and not (tmp_path / "img.2").exists()


def test_a_name_of_any_set_in_that_folder_is_refused(backup_set, tmp_path):
    (tmp_path / "other").mkdir()
    elsewhere = chains.new_set(tmp_path / "other", "web.7")
    chains.write_version(elsewhere, b"x", BLOCK)

    for name in ("web.7.ver", "web.7.2", "web.7.lock"):
        with pytest.raises(TargetRefused, match=r"one of the set .*/other/web\.7"):
            restore.restore(backup_set, 1, str(tmp_path / "other" / name), force=True)


def test_by_any_spelling(backup_set, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "file").symlink_to("img.2")
    (tmp_path / "sub" / "file").symlink_to("../img.1.md5")
    (tmp_path / "sub" / "hard").hardlink_to(tmp_path / "img.1.gz")
    (tmp_path / "beside").hardlink_to(tmp_path / "img.ver")
    before = state(tmp_path)

    for path in ("link/img.2", "sub/../img.2", "./img.2", "file", "sub/file", "sub/hard", "beside", "link/sub/hard"):
        with pytest.raises(TargetRefused, match="set"):
            restore.restore(backup_set, 1, f"{tmp_path}/{path}", force=True)

    assert state(tmp_path) == before


def test_a_set_whose_files_are_links_to_elsewhere(backup_set, tmp_path):
    (tmp_path / "disk").mkdir()
    os.rename(backup_set.path(1, ".gz"), tmp_path / "disk" / "data")
    os.symlink(tmp_path / "disk" / "data", backup_set.path(1, ".gz"))

    with pytest.raises(TargetRefused, match=r"img\.1\.gz, a file of a set"):
        restore.restore(backup_set, 1, str(tmp_path / "disk" / "data"), force=True)


def test_a_hard_link_beside_another_sets_file(backup_set, tmp_path):
    (tmp_path / "other").mkdir()
    elsewhere = chains.new_set(tmp_path / "other", "web")
    chains.write_version(elsewhere, b"x", BLOCK)
    os.link(elsewhere.path(1, ".gz"), tmp_path / "other" / "copy")

    with pytest.raises(TargetRefused, match=r"web\.1\.gz, a file of a set"):
        restore.restore(backup_set, 1, str(tmp_path / "other" / "copy"), force=True)


def test_other_names_may_be_written(backup_set, tmp_path):
    for name in ("img", "img.0", "img.02", "img.2.raw", "img.2.blockdiff", "img2", "new.ver.old", "web.1"):
        assert restore.restore(backup_set, 1, str(tmp_path / name)).failure is None, name
        os.unlink(tmp_path / name)


def test_an_original_set_without_digests_or_ver_is_the_one_that_is_read(tmp_path):
    """Its own names are known from the command line, where the folder does not tell."""
    assert precheck.look(str(tmp_path / "img.2")).kind == NEW
    with pytest.raises(TargetRefused, match="one of the set"):
        precheck.look(str(tmp_path / "img.2"), (str(tmp_path), "img"))


def test_owner():
    assert names.owner("a.b.2.gz", ["a", "a.b"]) == "a.b"
    assert names.owner("a.2.idx.part", ["b", "a"]) == "a"
    assert names.owner("a.ver.r0123456789abcdef.part", ["b", "a"]) == "a"
    assert names.owner("a.2.bz2", ["a"]) is None
    assert names.owner("a", ["a"]) is None


# what is at the path


def checked(path, force=False):
    seen = precheck.look(path, pause=lambda seconds: None)
    precheck.check(seen, 0, force)
    return seen


def test_neither_file_nor_device(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    os.symlink(tmp_path / "nowhere", tmp_path / "dangling")
    for path in (tmp_path, tmp_path / "fifo", tmp_path / "dangling", tmp_path / "no" / "such", "/dev/null"):
        with pytest.raises(TargetRefused):
            precheck.look(str(path))


def test_an_empty_file_may_be_written_and_another_not(tmp_path):
    path = tmp_path / "out"
    path.write_bytes(b"")
    assert precheck.look(str(path)) == TargetState(str(path), FILE)
    path.write_bytes(b"x" * 700)
    seen = precheck.look(str(path))
    assert seen.size == 700
    with pytest.raises(TargetRefused, match="700 bytes"):
        precheck.check(seen, 0)
    precheck.check(seen, 0, force=True)


def test_a_device_is_looked_at(loop):
    seen = precheck.look(loop)

    assert (seen.kind, seen.size, seen.content, seen.used) == (DEVICE, 4 * MIB, "", ())


def test_a_device_that_an_unknown_one_holds_is_refused(loop, tmp_path):
    """As one that another container has mounted: only the kernel's answer tells."""
    seen = precheck.look(loop)
    subprocess.run(["mkfs.ext4", "-q", loop], check=True)
    script = f"mount {loop} {tmp_path} && echo mounted && read line"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(["unshare", "-m", "--propagation", "private", "sh", "-c", script], **pipes) as other:
        if other.stdout.readline() != "mounted\n":
            pytest.skip("no mount of one's own here")
        for force in (False, True):
            with pytest.raises(TargetRefused, match="device is busy; holder unknown"):
                Target(checked(loop, force))
        with pytest.raises(TargetRefused, match="device is busy; holder unknown"):
            Target(seen)  # claimed since it was looked at
        other.communicate("end\n")


def test_kinds_are_told(tmp_path):
    assert precheck.look(str(tmp_path / "new")).kind == NEW
    assert pathlib.Path(tmp_path / "new").exists() is False
