"""Nothing that a guest sends gets out of the folder."""

import os
import stat

import pytest
from entries import entry

from blockdiff.errors import TargetRefused
from blockdiff.guest.answers import Data
from blockdiff.guest.folder import Folder


@pytest.fixture
def folder(tmp_path):
    """Return a new folder, whose files are complete when a test leaves it."""
    return Folder(str(tmp_path / "out"))


def put(folder, *entries):
    return [folder.put(each, each.name) for each in entries]


def test_a_tree_is_written(folder, tmp_path):
    out = tmp_path / "out"
    with folder:
        put(folder, entry("a", "dir", mode=0o500), entry("a/f", size=5, shared=True, mode=0o600))
        folder.write(Data(3, b"xy"))
        assert put(folder, entry("a/g", "link", target="a/f"), entry("a/s", "symlink", target="/etc/passwd")) == ["", ""]
        assert put(folder, entry("b", "dir", mode=0o750), entry("c")) == ["", ""]
    assert (out / "a" / "f").read_bytes() == b"\0\0\0xy"
    assert os.stat(out / "a" / "f").st_ino == os.stat(out / "a" / "g").st_ino
    assert os.readlink(out / "a" / "s") == "/etc/passwd"
    assert [stat.S_IMODE(os.stat(out / name).st_mode) for name in ("a", "a/f", "b", "c")] == [0o500, 0o600, 0o750, 0o644]
    assert all(os.lstat(out / name).st_mtime_ns == 10**18 for name in ("a", "a/f", "a/s", "b", "c"))
    assert all(os.lstat(out / name).st_uid == os.getuid() for name in ("a", "a/f", "a/s", "b", "c"))


def test_bits_that_give_rights_are_not_kept(folder, tmp_path):
    with folder:
        put(folder, entry("d", "dir", mode=0o7755), entry("d/f", mode=0o6755))
    assert stat.S_IMODE(os.stat(tmp_path / "out" / "d").st_mode) == 0o755
    assert stat.S_IMODE(os.stat(tmp_path / "out" / "d" / "f").st_mode) == 0o755


@pytest.mark.parametrize("kind", ["char", "block", "fifo", "socket"])
def test_no_devices_are_made(kind, folder, tmp_path):
    with folder:
        assert put(folder, entry("x", kind, device=(1, 3))) == ["devices, pipes and sockets"]
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.parametrize("last", ["file", "dir", "symlink"])
def test_no_link_is_followed_on_the_way(last, folder, tmp_path):
    (tmp_path / "else").mkdir()
    with folder:
        put(folder, entry("s", "symlink", target="../else"))
        with pytest.raises(TargetRefused):
            put(folder, entry("s/x", last, target="t"))
        put(folder, entry("d", "dir"), entry("d/f", shared=True), entry("up", "symlink", target=".."))
        with pytest.raises(TargetRefused):
            put(folder, entry("up/x", "link", target="d/f"))
    assert os.listdir(tmp_path / "else") == [] and "x" not in os.listdir(tmp_path)


@pytest.mark.parametrize("there", ["file", "symlink", "dir"])
@pytest.mark.parametrize("new", ["file", "symlink", "dir"])
def test_nothing_is_written_over(there, new, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    victim = tmp_path / "victim"
    victim.write_text("as it was")
    if there == "dir":
        (out / "x").mkdir()
    elif there == "file":
        (out / "x").write_text("as it was")
    else:
        (out / "x").symlink_to(victim)
    with pytest.raises(TargetRefused), Folder(str(out)) as folder:
        put(folder, entry("x", new, target="t", size=3))
    assert victim.read_text() == "as it was" and os.listdir(out) == ["x"]


def test_a_link_is_only_to_a_file_of_this_run(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("mine")
    with Folder(str(out)) as folder:
        assert put(folder, entry("l", "link", target="mine")) == ["second names of files that were not written"]
    assert os.listdir(out) == ["mine"]


def test_a_file_that_cannot_be_read_to_its_end_is_removed(folder, tmp_path):
    with folder:
        put(folder, entry("a", size=5, shared=True))
        folder.write(Data(0, b"x"))
        folder.remove()
        assert put(folder, entry("b", "link", target="a")) == ["second names of files that were not written"]
    assert os.listdir(tmp_path / "out") == []


def test_a_file_that_an_error_cuts_short_is_removed(tmp_path):
    with pytest.raises(KeyError), Folder(str(tmp_path / "out")) as folder:
        put(folder, entry("d", "dir", mode=0o755), entry("d/a", size=5), entry("d/b", size=5))
        folder.write(Data(0, b"x"))
        raise KeyError
    assert os.listdir(tmp_path / "out" / "d") == ["a"]
    assert stat.S_IMODE(os.stat(tmp_path / "out" / "d").st_mode) == 0o755
