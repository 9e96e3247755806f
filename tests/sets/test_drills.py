"""NAME.drills: what is kept of drills may be lost, cut or of another format."""

import os
import stat

import pytest

from blockdiff.formats import names
from blockdiff.sets import drills


def line(version, passed=True, begun="1970-01-01T00:01:40Z"):
    return {"format": 1, "version": version, "begun": begun, "outcome": "passed" if passed else "failed",
            "why": "" if passed else "a page"}  # fmt: skip


def test_the_newest_is_the_last_that_was_added(tmp_path):
    name = str(tmp_path / "vol")
    assert drills.newest(drills.path_of(name)) is None
    drills.add(drills.path_of(name), line(1), 5)
    drills.add(drills.path_of(name), line(2, passed=False), 5)
    assert drills.load(drills.path_of(name)) == [drills.Drill(1, 100, True, ""), drills.Drill(2, 100, False, "a page")]
    assert drills.newest(drills.path_of(name)).version == 2
    assert stat.S_IMODE(os.stat(drills.path_of(name)).st_mode) == 0o600


def test_only_so_many_are_kept(tmp_path):
    name = str(tmp_path / "vol")
    for version in range(1, 8):
        drills.add(drills.path_of(name), line(version), 3)
    assert [each.version for each in drills.load(drills.path_of(name))] == [5, 6, 7]
    drills.add(drills.path_of(name), line(8), 1)
    assert [each.version for each in drills.load(drills.path_of(name))] == [8]


@pytest.mark.parametrize("bad", [b"x\n", b"[]\n", b"{}\n", b'{"format":2,"version":1}\n', b"[" * 100_000 + b"\n", b"\xff\n"])
def test_a_line_of_no_use_is_left_out(bad, tmp_path):
    name = str(tmp_path / "vol")
    drills.add(drills.path_of(name), line(1), 9)
    with open(drills.path_of(name), "ab") as file:
        file.write(bad)
    assert drills.newest(drills.path_of(name)).version == 1
    drills.add(drills.path_of(name), line(2), 9)
    assert [each.version for each in drills.load(drills.path_of(name))] == [1, 2]


def test_of_a_large_file_the_end_is_read(tmp_path, monkeypatch):
    name = str(tmp_path / "vol")
    for version in range(1, 30):
        drills.add(drills.path_of(name), line(version), 99)
    monkeypatch.setattr(drills, "_MOST", 300)
    found = [each.version for each in drills.load(drills.path_of(name))]
    assert found == list(range(30 - len(found), 30)) and 1 < len(found) < 5


def test_no_more_is_written_than_is_read(tmp_path, monkeypatch):
    name = str(tmp_path / "vol")
    monkeypatch.setattr(drills, "_MOST", 300)
    for version in range(1, 30):
        drills.add(drills.path_of(name), line(version), 99)
        assert os.path.getsize(drills.path_of(name)) <= 300
        assert drills.newest(drills.path_of(name)).version == version
    assert len(drills.load(drills.path_of(name))) > 1


def test_neither_a_link_nor_a_pipe_is_followed(tmp_path):
    name = str(tmp_path / "vol")
    os.symlink("elsewhere", drills.path_of(name))
    with pytest.raises(OSError, match="symbolic"):
        drills.add(drills.path_of(name), line(1), 9)
    os.unlink(drills.path_of(name))
    os.mkfifo(drills.path_of(name))
    assert drills.load(drills.path_of(name)) == []


def test_it_is_no_file_of_the_set():
    assert names.list_set("vol", ["vol.drills", "vol.1.md5"]) == names.list_set("vol", ["vol.1.md5"])
    assert names.set_names(["vol.drills"]) == []
