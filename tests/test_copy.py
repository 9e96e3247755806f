"""Versions copied to another place: which ones, that they are the same ones, and what is refused with nothing changed."""

import errno
import os
import pathlib
import shutil

import chains
import places
import pytest
from rewrites import faults, restores, rewrite

from blockdiff import codecs, copy
from blockdiff.errors import ChainBroken, DamagedFile, ForeignFiles, NoRoom, NoSuchSet, SetLocked, StoreUnreadable
from blockdiff.formats import manifest
from blockdiff.place.folder import Folder
from blockdiff.sets import drop, parent, recover
from blockdiff.sets.backupset import BackupSet

BLOCK = 64
FIRST = os.urandom(20 * BLOCK + 10)
VOLUMES = {n: os.urandom(n * BLOCK) + FIRST[n * BLOCK :] for n in range(1, 8)}
FULLS = (1, 4)


@pytest.fixture
def source(tmp_path):
    """Five versions, of which 1 and 4 are fulls."""
    (tmp_path / "here").mkdir()
    made = chains.new_set(tmp_path / "here")
    for number in range(1, 6):
        chains.write_version(made, VOLUMES[number], BLOCK, full=number in FULLS)
    return made


@pytest.fixture
def dest(tmp_path):
    """The same set at another place, without versions."""
    (tmp_path / "there").mkdir()
    return chains.new_set(tmp_path / "there")


def contents(backup_set):
    """What is in the set's folder, but its lock."""
    files = pathlib.Path(backup_set.folder).iterdir()
    return {path.name: path.read_bytes() for path in files if not path.name.endswith(".lock")}


def numbers(done):
    assert done.faults == [] and done.warnings == [], done
    return [one.number for one in done.versions]


def flip(path, place=100):
    data = bytearray(pathlib.Path(path).read_bytes())
    data[place] ^= 1
    pathlib.Path(path).write_bytes(data)


# which versions


def test_the_last_full_and_what_continues_it(source, dest, tmp_path):
    assert numbers(copy.copy(source, dest)) == [4, 5]
    restores(dest, {n: VOLUMES[n] for n in (4, 5)}, tmp_path)
    assert faults(dest) == []
    here, there = contents(source), contents(dest)
    assert there == {name: here[name] for name in here if name.startswith(("vol.4", "vol.5", "vol.ver"))}


def test_all_versions_are_the_same_and_other_files(source, dest, tmp_path):
    done = copy.copy(source, dest, every=True)
    assert numbers(done) == [1, 2, 3, 4, 5]
    assert [one.full for one in done.versions] == [True, False, False, True, False]
    assert contents(dest) == contents(source)
    assert sum(one.stored for one in done.versions) == sum(
        len(data) for name, data in contents(dest).items() if not name.endswith((".json", ".ver"))
    )
    for name in contents(source):
        here, there = (os.stat(os.path.join(each.folder, name)) for each in (source, dest))
        assert here.st_ino != there.st_ino and there.st_nlink == 1
        if not name.endswith((".json", ".ver")):
            assert here.st_mtime_ns == there.st_mtime_ns
    restores(dest, {n: VOLUMES[n] for n in range(1, 6)}, tmp_path)


def test_only_what_is_newer(source, dest):
    copy.copy(source, dest, every=True)
    assert numbers(copy.copy(source, dest, every=True)) == []
    chains.write_version(source, VOLUMES[6], BLOCK)
    chains.write_version(source, VOLUMES[7], BLOCK, full=True)
    assert numbers(copy.copy(source, dest)) == [6, 7]
    assert contents(dest) == contents(source)


def test_what_was_removed_there_stays_removed(source, dest):
    copy.copy(source, dest, every=True)
    with dest.locked():
        drop.drop(dest, [1, 2, 3])
    chains.write_version(source, VOLUMES[6], BLOCK)
    assert numbers(copy.copy(source, dest, every=True)) == [6]
    assert sorted(dest.listing().versions) == [4, 5, 6]


def test_numbers_with_gaps(source, dest, tmp_path):
    """The source's version 2 is gone, and version 3 continues version 1."""
    rewrite(source, 3, 1)
    with source.locked():
        drop.drop(source, [2])
    assert numbers(copy.copy(source, dest, every=True)) == [1, 3, 4, 5]
    assert contents(dest) == contents(source)
    restores(dest, {n: VOLUMES[n] for n in (1, 3, 4, 5)}, tmp_path)


def test_a_copied_set_is_continued_there(source, dest, tmp_path):
    copy.copy(source, dest)
    with dest.locked():
        assert recover.settle(dest, pytest.fail) == 5
        found = parent.find(dest, 5, pytest.fail, pytest.fail)
        found.close()
        assert (found.number, found.parent_number) == (6, 5)
    chains.write_version(dest, VOLUMES[6], BLOCK)
    assert faults(dest) == []
    assert sorted(dest.listing().versions) == [4, 5, 6]


def test_a_version_that_was_rewritten_since_is_the_same_one(source, dest):
    copy.copy(source, dest, every=True)
    rewrite(source, 5, None)
    chains.write_version(source, VOLUMES[6], BLOCK)
    assert numbers(copy.copy(source, dest)) == [6]
    assert faults(dest) == []


def test_a_prune_beside_it_does_not_matter(source, dest, tmp_path):
    """After the first version is copied, all others but the newest one are removed."""
    here = contents(source)

    def prune(one):
        if one.number == 1:
            rewrite(source, 5, None)
            with source.locked():
                drop.drop(source, [1, 2, 3, 4])

    assert numbers(copy.copy(source, dest, every=True, copied=prune)) == [1, 2, 3, 4, 5]
    assert contents(dest) == here and sorted(source.listing().versions) == [5]


def test_a_dry_run_changes_nothing(source, dest):
    done = copy.copy(source, dest, every=True, dry_run=True)
    assert numbers(done) == [1, 2, 3, 4, 5]
    assert os.listdir(dest.folder) == []
    for one, real in zip(done.versions, copy.copy(source, dest, every=True).versions, strict=True):
        assert (one.number, one.full, one.stored) == (real.number, real.full, real.stored)


@pytest.mark.parametrize("codec", [codecs.PLAIN, codecs.ZSTD], ids=["plain", "zstd"])
def test_other_formats(codec, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    source, dest = chains.new_set(tmp_path / "a"), chains.new_set(tmp_path / "b")
    for number in (1, 2):
        chains.write_version(source, VOLUMES[number], BLOCK, codec)
    assert numbers(copy.copy(source, dest)) == [1, 2]
    assert contents(dest) == contents(source)


# versions of the original


@pytest.mark.parametrize("name", sorted(path.name for path in places.GOLDEN.iterdir() if path.is_dir()))
def test_golden_sets(name, tmp_path):
    shutil.copytree(places.GOLDEN / name, tmp_path / "here")
    (tmp_path / "there").mkdir()
    source, dest = BackupSet(str(tmp_path / "here" / name)), BackupSet(str(tmp_path / "there" / name))
    ver = pathlib.Path(f"{source.name}.ver").read_bytes()
    pathlib.Path(f"{source.name}.ver").write_bytes(b"1\n")
    assert numbers(copy.copy(source, dest)) == [1]
    pathlib.Path(f"{source.name}.ver").write_bytes(ver)
    assert numbers(copy.copy(source, dest)) == list(range(2, int(ver) + 1))
    assert contents(dest) == contents(source)
    assert faults(dest) == []


@pytest.fixture
def originals(source):
    """Two more versions, by the original."""
    for number in (6, 7):
        chains.write_version(source, VOLUMES[number], BLOCK, original=True)
    return source


def test_the_original_continued_ours(originals, dest, tmp_path):
    assert numbers(copy.copy(originals, dest, every=True)) == [1, 2, 3, 4, 5, 6, 7]
    assert contents(dest) == contents(originals)
    restores(dest, VOLUMES, tmp_path)


def test_blocks_of_a_version_without_a_manifest_are_proved(originals, dest):
    """A gzip file that is whole, but has other blocks: only a walk finds it."""
    data = chains.payload_of(chains.blocks_of(VOLUMES[1], BLOCK), [0, 1, 2, 3, 4, 5], BLOCK)
    pathlib.Path(originals.path(6, ".gz")).write_bytes(codecs.GZIP.compress(data))
    done = copy.copy(originals, dest)
    assert [one.number for one in done.versions] == [4, 5]
    assert [fault.exit_code for fault in done.faults] == [53, 52]
    assert sorted(dest.listing().versions) == [4, 5] and dest.newest() == 5


# what is damaged


@pytest.mark.parametrize("suffix", [".gz", ".md5"])
def test_a_damaged_version_is_not_copied_and_newer_chains_are(suffix, source, dest):
    flip(source.path(2, suffix))
    done = copy.copy(source, dest, every=True)
    assert [one.number for one in done.versions] == [1, 4, 5]
    assert [type(fault) for fault in done.faults] == [DamagedFile, ChainBroken]
    assert done.exit_code == 51
    assert sorted(dest.listing().versions) == [1, 4, 5] and not dest.listing().parts
    assert faults(dest) == []


@pytest.mark.parametrize("suffix", [".idx", ".xxh128"])
def test_what_only_speeds_things_up_is_left_out(suffix, source, dest):
    flip(source.path(4, suffix))
    os.unlink(source.path(5, suffix))
    done = copy.copy(source, dest)
    assert [one.number for one in done.versions] == [4, 5] and done.exit_code == 3
    assert [f"vol.4{suffix}" in line for line in done.warnings] == [True]
    assert not dest.listing().parts and suffix not in dest.listing().versions[4]


def test_a_manifest_that_does_not_count_is_not_copied(source, dest):
    """The original has overwritten the newest version."""
    pathlib.Path(f"{source.name}.ver").write_bytes(b"4\n")
    chains.write_version(source, VOLUMES[7], BLOCK, original=True)
    done = copy.copy(source, dest)
    assert [one.number for one in done.versions] == [4, 5]
    assert dest.listing().versions[5] == {".gz", ".md5"}
    restored = BackupSet(dest.name)
    assert restored.hash(5, ".gz") == source.hash(5, ".gz")


def test_a_chain_that_is_not_linked(source, dest):
    chains.write_version(source, VOLUMES[6], BLOCK)
    shutil.copy(source.path(4, ".md5"), source.path(5, ".md5"))
    done = copy.copy(source, dest)
    assert [one.number for one in done.versions] == [4]
    assert [fault.exit_code for fault in done.faults] == [51, 52]


def test_a_newest_version_that_shows_no_chain(source, dest):
    os.unlink(source.path(5, ".md5"))
    with pytest.raises(DamagedFile, match="--all copies the versions that are whole"):
        copy.copy(source, dest)
    done = copy.copy(source, dest, every=True)
    assert [one.number for one in done.versions] == [1, 2, 3, 4] and done.exit_code == 51


def test_a_disk_that_does_not_give_a_file_ends_the_run(source, dest, monkeypatch):
    """It may be whole: nothing after it is copied, so that the next run tries it again."""
    real, bad = os.pread, os.stat(source.path(2, ".gz")).st_ino

    def pread(fd, *arguments):
        if os.fstat(fd).st_ino == bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(fd, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", pread)
        done = copy.copy(source, dest, every=True)
    assert [one.number for one in done.versions] == [1] and [type(fault) for fault in done.faults] == [StoreUnreadable]
    assert not dest.listing().parts
    assert numbers(copy.copy(source, dest, every=True)) == [2, 3, 4, 5]


def test_a_version_that_was_replaced_under_the_next_one(source, dest, tmp_path):
    """Each is whole, but version 5 was made on another version 4."""
    (tmp_path / "more").mkdir()
    other = chains.new_set(tmp_path / "more")
    for number in (1, 2, 3, 7):
        chains.write_version(other, VOLUMES[number], BLOCK, full=number == 7)
    for suffix in other.listing().versions[4]:
        shutil.copy(other.path(4, suffix), source.path(4, suffix))
    done = copy.copy(source, dest)
    assert [one.number for one in done.versions] == [4]
    assert [type(fault) for fault in done.faults] == [ChainBroken]
    assert "does not continue the version 4" in str(done.faults[0])


# what is refused


def refused(source, dest, error, match):
    before = contents(dest)
    with pytest.raises(error, match=match) as caught:
        copy.copy(source, dest, wait_s=0)
    assert contents(dest) == before
    return caught.value


def test_a_set_that_has_gone_another_way(source, dest):
    copy.copy(source, dest)
    chains.write_version(source, VOLUMES[6], BLOCK)
    chains.write_version(dest, VOLUMES[7], BLOCK)
    assert refused(source, dest, ForeignFiles, "version 6 of .* is not version 6 of").exit_code == 14
    chains.write_version(source, VOLUMES[7], BLOCK)
    refused(source, dest, ForeignFiles, "version 6 of .* is not version 6 of")


def test_another_volume_without_a_common_version(source, dest, tmp_path):
    copy.copy(source, dest)
    (tmp_path / "more").mkdir()
    other = chains.new_set(tmp_path / "more")
    for number in range(1, 7):
        chains.write_version(other, VOLUMES[number], BLOCK, full=number > 5)
    with other.locked():
        drop.drop(other, [5, 4, 3, 2, 1])
    text = pathlib.Path(other.path(6, ".json")).read_text()
    sheet = other.read_manifest(6)
    sheet.value["source"]["path"] = "/other"
    pathlib.Path(other.path(6, ".json")).write_bytes(manifest.encode(sheet.value))
    refused(other, dest, ForeignFiles, "no version in common")
    pathlib.Path(other.path(6, ".json")).write_text(text)
    assert numbers(copy.copy(other, dest)) == [6]


def test_a_copy_under_another_name_counts_or_is_refused(source, tmp_path):
    (tmp_path / "there").mkdir()
    dest = chains.new_set(tmp_path / "there", "offsite")
    assert numbers(copy.copy(source, dest)) == [4, 5]
    assert faults(dest) == [] and dest.read_manifest(5).value["set"] == "vol"
    chains.write_version(source, VOLUMES[6], BLOCK)
    assert numbers(copy.copy(source, dest)) == [6]
    assert faults(dest) == []
    chains.write_version(dest, VOLUMES[7], BLOCK)  # from here on the set is called offsite
    for _ in range(2):
        chains.write_version(source, VOLUMES[1], BLOCK, full=True)
    with source.locked():
        drop.drop(source, [7])
    refused(source, dest, ForeignFiles, "would be ignored")


def test_a_newer_set_is_not_copied_over(source, dest):
    copy.copy(source, dest)
    chains.write_version(dest, VOLUMES[6], BLOCK)
    done = copy.copy(source, dest)
    assert (done.versions, done.exit_code) == ([], 3)
    assert "newer than those of" in done.warnings[0]


def test_a_lock_and_missing_sets(source, dest):
    with dest.locked():
        refused(source, dest, SetLocked, "locked")
    refused(chains.new_set(source.folder, "none"), dest, NoSuchSet, "none")


def test_foreign_files_there_are_not_touched(source, dest):
    copy.copy(source, dest)
    chains.write_version(source, VOLUMES[6], BLOCK)
    pathlib.Path(dest.path(6, ".gz")).write_bytes(b"not ours")
    refused(source, dest, ForeignFiles, r"vol\.6\.gz")


def test_no_room(source, dest, monkeypatch):
    monkeypatch.setattr(Folder, "room", lambda self: 100 if "there" in self.at else None)
    done = copy.copy(source, dest)
    assert [type(fault) for fault in done.faults] == [NoRoom]
    assert done.versions == [] and contents(dest) == {}


def test_a_file_that_no_request_can_bring(source, dest, monkeypatch):
    monkeypatch.setattr(Folder, "most_beside", 100)
    done = copy.copy(source, dest)
    assert [type(fault) for fault in done.faults] == [NoRoom] and contents(dest) == {}


def test_a_limit_of_the_rate(source, dest):
    slept = copy.copy(source, dest, rate=20000)
    stored = sum(one.stored for one in slept.versions)
    assert sum(one.seconds for one in slept.versions) >= 0.9 * stored / 20000
