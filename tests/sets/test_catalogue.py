"""What is listed, without reading anything large."""

import os

import chains
import places
import pytest

from blockdiff import codecs
from blockdiff.errors import ForeignFiles, NoSuchSet
from blockdiff.formats import manifest
from blockdiff.sets import catalogue
from blockdiff.sets.backupset import BackupSet

GOLDEN = places.GOLDEN
BLOCK = 64


def test_a_set_of_ours(tmp_path):
    backup_set = chains.new_set(tmp_path)
    volume = os.urandom(10 * BLOCK + 3)
    chains.write_version(backup_set, volume, BLOCK)
    chains.write_version(backup_set, volume[:-1] + b"!", BLOCK, codecs.ZSTD)

    listed = catalogue.describe(backup_set)

    assert listed.newest == 2 and not listed.problems
    one, two = listed.versions
    assert (one.number, one.kind, one.size, one.blocks, one.changed) == (1, "full", 643, 11, 11)
    assert (two.number, two.kind, two.size, two.blocks, two.changed) == (2, "incremental", 643, 11, 1)
    assert (one.time, one.recorded, one.consistency) == ("2026-01-02T01:02:03Z", True, "none")
    assert one.stored == sum(os.path.getsize(backup_set.path(1, s)) for s in backup_set.listing().versions[1])
    assert listed.stored == one.stored + two.stored
    assert one.restores and two.restores and not one.why


def test_a_set_of_the_originals():
    listed = catalogue.describe(BackupSet(str(GOLDEN / "raw" / "raw")))

    assert [(v.kind, v.blocks, v.block_size, v.size) for v in listed.versions] == [
        ("full", 20, 512, None),
        ("incremental", 20, 512, None),
        ("incremental", 20, 512, None),
    ]
    assert [v.changed for v in listed.versions] == [20, 3, 4]
    assert all(v.restores and v.time and not v.recorded for v in listed.versions)


def test_what_cannot_be_known_is_not_guessed():
    listed = catalogue.describe(BackupSet(str(GOLDEN / "grow" / "grow")))

    assert [v.changed for v in listed.versions] == [11, None, None, None]


def test_the_source_and_where_it_changed(tmp_path):
    backup_set = three(tmp_path)
    for number, host, path in ((1, "nas", "/dev/vg0/a"), (2, "nas", "/dev/vg0/b"), (3, None, "/dev/vg0/b")):
        value = backup_set.read_manifest(number).value
        data = manifest.encode({**value, "source": {**value["source"], "host": host, "path": path}})
        with open(backup_set.path(number, ".json"), "wb") as file:
            file.write(data)

    listed = catalogue.describe(backup_set)

    assert [entry.source for entry in listed.versions] == ["nas:/dev/vg0/a", "nas:/dev/vg0/b", ""]
    assert listed.source == "nas:/dev/vg0/b"
    assert [entry.why for entry in listed.versions] == ["", "its source was nas:/dev/vg0/a before", ""]
    assert all(entry.restores for entry in listed.versions)


def test_how_a_version_was_read(tmp_path):
    backup_set = three(tmp_path)
    hint = {"method": "thin_delta", "blocks": 12, "audited": 300, "wrong": None}
    for number, told in ((1, hint), (2, "x"), (3, {"method": "new", "wrong": True, "more": 1})):
        data = manifest.encode({**backup_set.read_manifest(number).value, "hint": told})
        with open(backup_set.path(number, ".json"), "wb") as file:
            file.write(data)

    unknown = {"method": "new", "blocks": None, "audited": None, "wrong": None}
    assert [entry.hint for entry in catalogue.describe(backup_set).versions] == [hint, None, unknown]


def three(folder):
    backup_set = chains.new_set(folder)
    for number in range(3):
        chains.write_version(backup_set, bytes([number]) * 500, BLOCK)
    return backup_set


def restores(backup_set):
    return {v.number: (v.restores, v.why) for v in catalogue.describe(backup_set).versions}


def test_a_missing_version_breaks_those_after_it(tmp_path):
    backup_set = three(tmp_path)
    for suffix in backup_set.listing().versions[2]:
        os.unlink(backup_set.path(2, suffix))

    assert restores(backup_set) == {1: (True, ""), 3: (False, "version 2 is missing")}


@pytest.mark.parametrize("suffix", [".gz", ".md5", ".json"])
def test_damage_that_shows_without_reading(suffix, tmp_path):
    backup_set = three(tmp_path)
    path = backup_set.path(2, suffix)
    if suffix == ".gz":
        os.unlink(path)
    else:
        os.truncate(path, os.path.getsize(path) - 3)

    found = restores(backup_set)

    assert found[1] == (True, "") and not found[2][0] and found[3] == (False, "version 2 is damaged")


def test_a_link_that_does_not_join(tmp_path):
    backup_set = three(tmp_path)
    other = chains.new_set(tmp_path, "other")
    chains.write_version(other, b"another", BLOCK)
    for suffix in other.listing().versions[1]:
        os.rename(other.path(1, suffix), backup_set.path(1, suffix))

    found = restores(backup_set)

    assert found[1][0] and "is of the set 'other' and is ignored" in found[1][1] and not found[2][0] and "does not continue" in found[2][1] and not found[3][0]


def test_versions_that_are_not_published(tmp_path):
    backup_set = three(tmp_path)
    backup_set.publish_ver(2)

    assert restores(backup_set)[3] == (False, "not published")


def test_ver_that_is_of_no_use(tmp_path):
    backup_set = three(tmp_path)
    os.unlink(backup_set.name + ".ver")

    listed = catalogue.describe(backup_set)

    assert isinstance(listed.problems[0], ForeignFiles) and len(listed.versions) == 3


def test_sets_in_a_folder(tmp_path):
    for name in ("b", "a", "a.1", "with space", "-dash", "ü"):
        chains.write_version(chains.new_set(tmp_path, name), b"x", BLOCK)
    (tmp_path / "notes.txt").write_text("no set")

    assert catalogue.sets(str(tmp_path)) == [
        str(tmp_path / name) for name in ("-dash", "a", "a.1", "b", "with space", "ü")
    ]
    with pytest.raises(NoSuchSet):
        catalogue.sets(str(tmp_path / "none"))
    with pytest.raises(NoSuchSet):
        catalogue.describe(chains.new_set(tmp_path, "none"))


def test_a_thousand_versions_are_planned_without_reading_the_diff_files(tmp_path):
    backup_set = chains.new_set(tmp_path)
    chains.write_version(backup_set, b"x" * 200, BLOCK, codecs.PLAIN, original=True)
    for number in range(2, 1001):
        for suffix in ("", ".md5"):
            os.link(backup_set.path(1, suffix), backup_set.path(number, suffix))
    backup_set.publish_ver(1000)
    os.chmod(backup_set.path(1, ""), 0)

    listed = catalogue.describe(backup_set)

    assert len(listed.versions) == 1000 and all(v.restores for v in listed.versions)


def test_a_folder_is_listed_once_for_all_its_sets(tmp_path, monkeypatch):
    for name in ("a", "a.b", "c"):
        chains.random_set(tmp_path, 3, 100, base=name)
    listed, real = [], os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: listed.append(path) or real(path))
    found = catalogue.every([str(tmp_path)])
    assert [(each.name, len(each.versions)) for each in found] == [(str(tmp_path / n), 3) for n in ("a", "a.b", "c")]
    assert listed == [str(tmp_path)]
    assert catalogue.find([str(tmp_path), str(tmp_path / "c"), str(tmp_path)]) == catalogue.find([str(tmp_path)])


def test_a_set_that_changed_since_its_folder_was_listed_is_looked_at_again(tmp_path):
    grown, shrunk = (chains.random_set(tmp_path, 3, 100, base=name) for name in ("grown", "shrunk"))
    before = catalogue.find([str(tmp_path)])
    chains.write_version(grown, b"more", 100)
    chains.write_version(shrunk, b"anew", 100, full=True)
    for number in (1, 2, 3):
        chains.drop(shrunk, number)
    of_grown, of_shrunk = map(catalogue.look, before)
    assert [entry.number for entry in of_grown.versions] == [1, 2, 3, 4]
    assert [entry.number for entry in of_shrunk.versions] == [4]
    assert of_grown.newest == of_shrunk.newest == 4 and not of_grown.problems + of_shrunk.problems
