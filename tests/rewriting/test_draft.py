"""A version rewritten: what its manifest has, what is refused, and what never gets the version's name."""

import hashlib
import json
import os
import pathlib
import shutil

import chains
import original
import places
import pytest
from rewrites import faults, identities, restores, rewrite

from blockdiff import codecs, restore
from blockdiff.errors import (
    BlockdiffError,
    DamagedFile,
    DigestMismatch,
    MissingFile,
    NoRoom,
    NoSuchVersion,
    NotOurFormat,
    SetChanged,
    SetLocked,
)
from blockdiff.place import partfile
from blockdiff.rewriting.draft import draft
from blockdiff.rewriting.plan import NotInChain
from blockdiff.sets import chain, recover
from blockdiff.sets.backupset import BackupSet

BLOCK = 16384  # bytes; zeros of such blocks are not compressed
EXPECTED = json.loads((places.GOLDEN / "expected.json").read_text())
CODECS = [codecs.GZIP, codecs.ZSTD, codecs.PLAIN]
IDS = ["gz", "zst", "plain"]


def history():
    """Five versions of a volume by number."""
    volume = os.urandom(20 * BLOCK) + bytes(8 * BLOCK) + os.urandom(12 * BLOCK + 100)
    found = {}
    for number in range(1, 6):
        found[number] = volume
        block = os.urandom(BLOCK) if number != 3 else found[1][BLOCK : 2 * BLOCK]
        volume = volume[:BLOCK] + block + volume[2 * BLOCK : 4 * BLOCK] + block + volume[5 * BLOCK :]
    return found


@pytest.fixture
def volumes():
    return history()


def made(folder, volumes, codec=codecs.GZIP, **how):
    backup_set = chains.new_set(folder)
    for volume in volumes.values():
        chains.write_version(backup_set, volume, BLOCK, codec, member=4 * BLOCK, **how)
    return backup_set


def content(backup_set):
    """Every file of a set, with what it holds."""
    return {
        path.name: path.read_bytes() for path in pathlib.Path(backup_set.folder).iterdir() if path.suffix != ".lock"
    }


def test_the_manifest_says_what_became_of_the_version(tmp_path, volumes):
    backup_set = made(tmp_path, volumes)
    before = backup_set.read_manifest(5).value
    kept = identities(backup_set)

    done = rewrite(backup_set, 5, 2)

    sheet = backup_set.read_manifest(5)
    value = sheet.value
    assert (sheet.parent, value["format"], value["kind"]) == (2, 2, "incremental")
    assert sheet.parent_md5_sha256 == backup_set.hash(2, ".md5").sha256
    for key in ("begun", "ended", "source", "set", "consistency", "agent", "quiesce", "snapshot"):
        assert value[key] == before[key]
    rewritten = dict(value["rewritten"])
    assert rewritten.pop("at") and rewritten.pop("blockdiff")
    assert rewritten == {"kind": "incremental", "parent": 4, "versions": [3, 5], "bytes_read": done.read}
    assert value["blocks"] == {"total": 41, "changed": 2, "zero": 0}
    assert value["bytes"]["stored"] == backup_set.size(5, ".gz") == done.stored
    assert value["bytes"]["read"] == before["bytes"]["read"]
    for suffix in (".gz", ".idx", ".md5", ".xxh128"):
        assert sheet.files[suffix] == backup_set.hash(5, suffix)
    assert identities(backup_set) == kept
    restores(backup_set, volumes, tmp_path)
    assert faults(backup_set) == []

    rewrite(backup_set, 5, None)

    value = backup_set.read_manifest(5).value
    assert (value["format"], value["kind"], value["parent"], value["parent_md5_sha256"]) == (1, "full", None, None)
    assert (value["rewritten"]["kind"], value["rewritten"]["parent"]) == ("incremental", 2)
    assert value["blocks"] == {"total": 41, "changed": 41, "zero": 8}
    restores(backup_set, volumes, tmp_path)
    assert faults(backup_set) == []


@pytest.mark.parametrize("name", EXPECTED)
def test_a_version_of_the_original_gets_its_first_manifest(name, tmp_path):
    facts = EXPECTED[name]
    if facts["suffix"] == ".lzop" and shutil.which("lzop") is None:
        pytest.skip("lzop is not installed")
    shutil.copytree(places.GOLDEN / name, tmp_path / name)
    backup_set = BackupSet(str(tmp_path / name / name))
    kept = identities(backup_set)
    versions = facts["versions"]
    last = versions[-1]["version"]
    links = [link.number for link in chain.chain_of(backup_set, last, backup_set.listing())]

    for onto in (links[0], None) if len(links) > 1 else (None,):
        rewrite(backup_set, last, onto)

        sheet = backup_set.read_manifest(last)
        assert (sheet.parent, sheet.value["source"]["host"], sheet.value["agent"]) == (onto, None, None)
        assert not {"command", "hint", "moment"} & set(sheet.value)
        assert sheet.size in ((versions[-1]["size"],) if onto is None else (None, versions[-1]["size"]))
        for version in versions:
            target = tmp_path / "out"
            assert restore.restore(backup_set, version["version"], str(target)).warnings == []
            data = target.read_bytes()
            assert hashlib.sha256(data).hexdigest() == version["sha256"]
            assert original.merged(backup_set.name, version["version"])[: len(data)] == data
            target.unlink()
        assert faults(backup_set) == []
    assert identities(backup_set) == kept
    assert backup_set.listing().diffs(last) == [facts["suffix"]]


@pytest.mark.parametrize("codec", CODECS, ids=IDS)
@pytest.mark.parametrize("place", [0.02, 0.3, 0.6, 0.95])
def test_what_is_not_right_on_the_disk_never_gets_the_name(place, codec, tmp_path, volumes, monkeypatch):
    """A byte of the new diff file flips after it was written, and before it is read back."""
    backup_set = made(tmp_path, volumes, codec)
    before = content(backup_set)
    forget = partfile.PartFile.forget

    def flip(part):
        if part.final_path == backup_set.path(5, codec.suffix):
            with open(part.path, "r+b") as file:
                file.seek(int(part.size * place))
                byte = file.read(1)
                file.seek(-1, os.SEEK_CUR)
                file.write(bytes([byte[0] ^ 0x10]))
        forget(part)

    monkeypatch.setattr(partfile.PartFile, "forget", flip)
    with pytest.raises(DigestMismatch):
        draft(backup_set, 5, None, threads=2)

    assert content(backup_set) == before


@pytest.mark.parametrize("codec", CODECS, ids=IDS)
def test_a_wrong_index_never_gets_the_name(codec, tmp_path, volumes, monkeypatch):
    backup_set = made(tmp_path, volumes, codec)
    if codec is codecs.PLAIN:
        pytest.skip("it has none")
    before = content(backup_set)
    forget = partfile.PartFile.forget

    def flip(part):
        if part.path.endswith(".part") and ".idx." in part.path:
            with open(part.path, "r+b") as file:
                file.seek(part.size - 1)  # of the last entry, which no reader needs
                file.write(b"\x01")
        forget(part)

    monkeypatch.setattr(partfile.PartFile, "forget", flip)
    with pytest.raises(DigestMismatch):
        draft(backup_set, 5, None, threads=2)

    assert content(backup_set) == before


def harm(backup_set, number, suffix, how):
    path = pathlib.Path(backup_set.path(number, suffix))
    data = bytearray(path.read_bytes())
    if how == "gone":
        path.unlink()
        return
    if how == "cut":
        del data[len(data) * 2 // 3 :]
    else:
        data[len(data) // 2] ^= 0x55
    path.write_bytes(data)


NEEDED = [(how, number) for how in ("gone", "cut") for number in (1, 2, 4, 5)] + [("flipped", 1), ("flipped", 5)]


@pytest.mark.parametrize("codec", CODECS, ids=IDS)
@pytest.mark.parametrize("how, number", NEEDED)
def test_damage_of_what_is_needed_is_told_and_nothing_written(how, number, codec, tmp_path, volumes):
    backup_set = made(tmp_path, volumes, codec)
    harm(backup_set, number, codec.suffix, how)
    before = content(backup_set)
    with pytest.raises((DamagedFile, DigestMismatch, NotOurFormat)) as caught:
        draft(backup_set, 5, None, threads=2)

    assert caught.value.exit_code in (50, 51, 53)
    assert isinstance(caught.value, MissingFile) == (how == "gone")
    assert content(backup_set) == before


@pytest.mark.parametrize("how", ["gone", "flipped"])
def test_damage_of_a_digest_file_is_told(how, tmp_path, volumes):
    for number in (1, 3, 5):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        backup_set = made(folder, volumes)
        harm(backup_set, number, ".md5", how)
        before = content(backup_set)
        with pytest.raises(BlockdiffError) as caught:
            draft(backup_set, 5, None, threads=2)
        assert caught.value.exit_code in (51, 52, 53)
        assert content(backup_set) == before


def test_damage_of_what_is_not_needed_does_not_matter(tmp_path, volumes):
    """The only member of a full that a newer version replaces whole is never read."""
    changed = os.urandom(4 * BLOCK) + volumes[1][4 * BLOCK :]
    backup_set = made(tmp_path, {1: volumes[1], 2: changed})
    span = chains.spans_of(backup_set, 1, BLOCK)[1]
    path = pathlib.Path(backup_set.path(1, ".gz"))
    data = bytearray(path.read_bytes())
    data[span.member.place + 100] ^= 1
    path.write_bytes(data)

    rewrite(backup_set, 2, None)

    target = tmp_path / "out"
    assert restore.restore(backup_set, 2, str(target)).failure is None
    assert target.read_bytes() == changed


def test_members_of_the_full_that_are_all_the_same_are_copied(tmp_path):
    volume = os.urandom(300 * BLOCK) + bytes(100 * BLOCK)
    backup_set = chains.new_set(tmp_path)
    chains.write_version(backup_set, volume, BLOCK, member=256 * BLOCK)
    volumes = {1: volume, 2: volume[: 299 * BLOCK] + os.urandom(BLOCK) + volume[300 * BLOCK :]}
    chains.write_version(backup_set, volumes[2], BLOCK)
    old = pathlib.Path(backup_set.path(1, ".gz")).read_bytes()
    members = [old[s.member.place : s.member.place + s.stored] for s in chains.spans_of(backup_set, 1, BLOCK)]

    done = rewrite(backup_set, 2, None)

    new = pathlib.Path(backup_set.path(2, ".gz")).read_bytes()
    assert members[1] in new and members[-1] in new
    assert done.merged.copied == len(members[1]) + len(members[-1])
    assert faults(backup_set) == []
    restores(backup_set, volumes, tmp_path)


@pytest.mark.parametrize("onto, number", [(5, 5), (5, 3), (1, 5)])
def test_only_a_version_of_its_chain_may_be_stood_on(onto, number, tmp_path, volumes):
    backup_set = chains.new_set(tmp_path)
    for each, volume in volumes.items():
        chains.write_version(backup_set, volume, BLOCK, full=each == 4)
    with pytest.raises(NotInChain):
        draft(backup_set, number, onto, threads=2)


def test_a_version_that_there_is_not(tmp_path, volumes):
    with pytest.raises(NoSuchVersion):
        draft(made(tmp_path, volumes), 6, None, threads=2)


def newer_manifest(backup_set):
    os.utime(backup_set.path(3, ".json"), (1, 1))


def other_diff(backup_set):
    path = backup_set.path(2, ".gz")
    shutil.copy(path, path + ".new")
    os.rename(path + ".new", path)


def no_draft(backup_set):
    for name in backup_set.listing().parts:
        os.unlink(os.path.join(backup_set.folder, name))


def rewritten(backup_set):
    other = BackupSet(backup_set.name)
    for name in other.listing().parts:  # as if these were not locked, on a file system without locks
        os.unlink(os.path.join(other.folder, name))
    rewrite(other, 4, 1)


@pytest.mark.parametrize("what", [newer_manifest, other_diff, no_draft, rewritten])
def test_nothing_is_swapped_when_the_set_has_changed(what, tmp_path, volumes):
    backup_set = made(tmp_path, volumes)
    new = draft(backup_set, 5, None, threads=2)
    what(backup_set)
    before = {name: data for name, data in content(backup_set).items() if ".part" not in name}

    with pytest.raises(SetChanged), backup_set.locked():
        new.swap()
    new.discard()

    assert content(backup_set) == before


def test_a_backup_goes_on_beside_a_draft(tmp_path, volumes):
    backup_set = made(tmp_path, volumes)
    new = draft(backup_set, 5, None, threads=2)
    other = BackupSet(backup_set.name)
    with other.locked():
        assert recover.settle(other, pytest.fail) == 5
        chains.write_version(other, volumes[1], BLOCK)

    with backup_set.locked():
        new.swap()

    assert not backup_set.listing().parts
    restores(backup_set, volumes | {6: volumes[1]}, tmp_path)
    assert faults(backup_set) == []


def test_one_rewrite_at_a_time(tmp_path, volumes):
    backup_set = made(tmp_path, volumes)
    new = draft(backup_set, 5, None, threads=2)
    with pytest.raises(SetLocked):
        draft(BackupSet(backup_set.name), 4, 1, threads=2)
    new.discard()
    assert not backup_set.listing().parts
    rewrite(backup_set, 4, 1)


def test_without_room_nothing_is_begun(tmp_path, volumes, monkeypatch):
    backup_set = made(tmp_path, volumes)
    need = sum(backup_set.size(number, ".gz") for number in range(1, 6))
    real = os.statvfs(tmp_path)
    before = content(backup_set)

    def little(free):
        parts = list(real)
        parts[1], parts[3], parts[4] = 1, free, free  # f_frsize, f_bfree, f_bavail
        return lambda path: os.statvfs_result(parts)

    monkeypatch.setattr(os, "statvfs", little(need - 1))
    with pytest.raises(NoRoom):
        draft(backup_set, 5, None, threads=2)
    assert content(backup_set) == before
    monkeypatch.setattr(os, "statvfs", little(need))
    draft(backup_set, 5, None, threads=2).discard()
