"""What a rewrite that died half way left: only what is whole, of this version and of no active run gets its name."""

import json
import os

import chains
import pytest
from rewrites import faults, restores

from blockdiff.formats import manifest
from blockdiff.place import partfile
from blockdiff.rewriting.draft import draft
from blockdiff.sets import recover
from blockdiff.sets.backupset import BackupSet

FIRST = os.urandom(900)
VOLUMES = {1: FIRST, 2: os.urandom(64) + FIRST[64:], 3: os.urandom(128) + FIRST[128:]}


class Died(Exception):
    """The run that rewrites."""


@pytest.fixture
def left(tmp_path, monkeypatch):
    """A set whose run died after so many of the new files had got their names."""

    def died(steps):
        backup_set = chains.new_set(tmp_path)
        for volume in VOLUMES.values():
            chains.write_version(backup_set, volume, 64)
        real, done = partfile.PartFile.replace, []

        def replace(part):
            if len(done) == steps:
                raise Died
            done.append(part)
            real(part)

        new = draft(backup_set, 3, None, threads=1)
        with monkeypatch.context() as patch, pytest.raises(Died):
            patch.setattr(partfile.PartFile, "replace", replace)
            new.swap()
        new._release()
        return backup_set

    return died


def settle(backup_set):
    lines = []
    with backup_set.locked():
        assert recover.settle(backup_set, lines.append) == 3
    assert not backup_set.listing().parts
    return lines


@pytest.mark.parametrize("steps, notes", [(0, 0), (1, 1), (2, 0), (3, 0)])
def test_it_is_finished_from_the_new_diff_file_on(steps, notes, left, tmp_path):
    backup_set = left(steps) if steps < 3 else left(2)
    lines = settle(backup_set)

    assert len(lines) == notes
    assert (backup_set.read_manifest(3).parent is None) == (steps > 0)
    assert [".idx is missing" in line for line in faults(backup_set)] == ([True] if steps == 0 else [])
    restores(backup_set, VOLUMES, tmp_path)
    assert settle(backup_set) == []


def sheet_path(backup_set):
    (name,) = (name for name in backup_set.listing().parts if ".json." in name)
    return os.path.join(backup_set.folder, name)


def altered(backup_set, change):
    path = sheet_path(backup_set)
    with open(path, "rb") as file:
        value = json.loads(file.read())
    change(value)
    with open(path, "wb") as file:
        file.write(manifest.encode(value))


def another_version(backup_set):
    altered(backup_set, lambda value: value.update(version=4))


def not_rewritten(backup_set):
    altered(backup_set, lambda value: value.pop("rewritten"))


def another_diff(backup_set):
    altered(backup_set, lambda value: value["files"][".gz"].update(sha256="0" * 64))


def another_md5(backup_set):
    altered(backup_set, lambda value: value["files"][".md5"].update(sha256="0" * 64))


def two_diffs(backup_set):
    altered(backup_set, lambda value: value["files"].update({".zst": value["files"][".gz"]}))


def torn(backup_set):
    os.truncate(sheet_path(backup_set), 100)


@pytest.mark.parametrize("change", [another_version, not_rewritten, another_diff, another_md5, two_diffs, torn])
def test_a_manifest_that_does_not_fit_is_removed(change, left, tmp_path):
    backup_set = left(1)
    change(backup_set)
    with open(backup_set.path(3, ".json"), "rb") as file:
        before = file.read()

    assert settle(backup_set) == []

    with open(backup_set.path(3, ".json"), "rb") as file:
        assert file.read() == before
    restores(backup_set, VOLUMES, tmp_path)


def test_an_index_that_does_not_fit_is_removed(left, tmp_path):
    backup_set = left(2)
    (name,) = backup_set.listing().parts
    with open(os.path.join(backup_set.folder, name), "ab") as file:
        file.write(bytes(32))

    settle(backup_set)

    assert not os.path.exists(backup_set.path(3, ".idx"))
    restores(backup_set, VOLUMES, tmp_path)


def test_files_of_an_active_run_are_left_alone(tmp_path):
    backup_set = chains.new_set(tmp_path)
    for volume in VOLUMES.values():
        chains.write_version(backup_set, volume, 64)
    new = draft(backup_set, 3, None, threads=1)
    parts = backup_set.listing().parts
    other = BackupSet(backup_set.name)
    with other.locked():
        assert recover.settle(other, pytest.fail) == 3
    assert len(parts) == 3 and backup_set.listing().parts == parts
    new.discard()
