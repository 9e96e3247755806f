"""The file of verified versions: it may be lost or damaged, and a version that changed has another stamp."""

import os
import shutil

import chains
import pytest

from blockdiff.sets import verified, versions


def test_what_is_saved_is_loaded(tmp_path):
    path = str(tmp_path / "vol")

    proofs = {2: verified.Proof("b", 1, 2, 3, 4), 1: verified.Proof("a", 5, 6, 7, 8)}
    notes = verified.Notes(proofs, {3: verified.Damage(7, "bytes 0 to 63 \udc80", ((0, 64), (128, 192)))})
    verified.save(path, "vol", notes)

    assert verified.load(path) == notes
    assert os.listdir(tmp_path) == ["vol"]


@pytest.mark.parametrize("text", [
    "", "{", "[]", "null", "[" * 100_000, '{"format":2,"versions":{"1":"a"}}', '{"format":1,"versions":{"1":"a"}}',
    '{"format":1}', '{"format":2}', '{"format":2,"versions":3}', '{"format":2,"versions":{},"damage":{"1":{"at":1}}}',
    '{"format":2,"versions":{},"damage":{"1":{"at":1,"what":"x","lost":[[1]]}}}',
])  # fmt: skip
def test_a_file_of_no_use_is_as_none(text, tmp_path):
    assert verified.load(str(tmp_path / "none")) == verified.Notes()
    (tmp_path / "vol").write_text(text)
    assert verified.load(str(tmp_path / "vol")) == verified.Notes()


def test_a_file_without_damage_is_of_the_release_before(tmp_path):
    entry = '{"at":1,"size":2,"mtime_ns":3,"ino":4,"stamp":"ab"}'
    (tmp_path / "vol").write_text(f'{{"format":2,"set":"vol","versions":{{"3":{entry}}}}}')
    assert verified.load(str(tmp_path / "vol")) == verified.Notes({3: verified.Proof("ab", 1, 2, 3, 4)})


def test_what_needs_a_damaged_version_is_doubtful():
    damage = dict.fromkeys((2, 6), verified.Damage(1, "x"))
    parents = {1: None, 2: 1, 3: 2, 5: 3, 6: 5, 7: 6, 8: None, 9: 8, 10: 1, 12: 11}
    assert verified.Notes(damage=damage).doubtful(parents) == {3: 2, 5: 2, 7: 6}
    assert verified.Notes().doubtful(parents) == {}


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
