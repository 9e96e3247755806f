"""The file of verified versions: it may be lost or damaged, and a version that changed has another stamp."""

import os

import chains
import pytest

from blockdiff.sets import verified, versions


def test_what_is_saved_is_loaded(tmp_path):
    path = str(tmp_path / "state" / "vol")

    verified.save(path, "vol", {2: "b", 1: "a"})

    assert verified.load(path) == {1: "a", 2: "b"}
    assert os.listdir(tmp_path / "state") == ["vol"]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format":2,"versions":{"1":"a"}}', '{"format":1}'])
def test_a_file_of_no_use_is_as_none(text, tmp_path):
    assert verified.load(str(tmp_path / "none")) == {}
    (tmp_path / "vol").write_text(text)
    assert verified.load(str(tmp_path / "vol")) == {}


def test_a_version_that_changed_has_another_stamp(tmp_path):
    backup_set = chains.new_set(tmp_path)
    chains.write_version(backup_set, os.urandom(1000), 100)

    def stamp():
        return verified.of(backup_set, versions.version(backup_set, 1, backup_set.listing(), deep=False))

    before = stamp()
    assert stamp() == before
    with open(backup_set.path(1, ".gz"), "ab") as file:
        file.write(b"x")
    assert stamp() != before
