"""The file of verified versions: it may be lost or damaged, and a version that changed has another stamp."""

import os
import shutil

import chains
import pytest

from blockdiff.sets import verified, versions


def test_what_is_saved_is_loaded(tmp_path):
    path = str(tmp_path / "state" / "vol")

    proofs = {2: verified.Proof("b", 1, 2, 3, 4), 1: verified.Proof("a", 5, 6, 7, 8)}
    verified.save(path, "vol", proofs)

    assert verified.load(path) == proofs
    assert os.listdir(tmp_path / "state") == ["vol"]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format":2,"versions":{"1":"a"}}', '{"format":1,"versions":{"1":"a"}}', '{"format":1}'])
def test_a_file_of_no_use_is_as_none(text, tmp_path):
    assert verified.load(str(tmp_path / "none")) == {}
    (tmp_path / "vol").write_text(text)
    assert verified.load(str(tmp_path / "vol")) == {}


def test_a_version_that_changed_is_another_one(tmp_path):
    backup_set = chains.new_set(tmp_path)
    chains.write_version(backup_set, os.urandom(1000), 100)
    path = backup_set.path(1, ".gz")

    def proof(at=1):
        return verified.of(backup_set, versions.version(backup_set, 1, backup_set.listing(), deep=False), at)

    before = proof()
    assert proof(at=2).same_files(before) and not before.same_files(None)
    found = os.stat(path)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + 1))
    assert not proof().same_files(before), "written to"
    before = proof()
    shutil.copy2(path, f"{path}.copy")
    os.rename(f"{path}.copy", path)
    assert not proof().same_files(before), "another file with the same size and time"
    before = proof()
    with open(path, "ab") as file:
        file.write(b"x")
    assert proof().stamp != before.stamp
