"""Publishing: all files of a version get their names and then NAME.ver, or none of them stays."""

import os
import pathlib

import chains
import pytest
import signed
from engine import files_of

from blockdiff.errors import ForeignFiles
from blockdiff.formats import manifest
from blockdiff.sets import publishing
from blockdiff.sets.backupset import BackupSet
from blockdiff.signing.signer import Signer

VALUE = manifest.NewManifest(
    blockdiff="0",
    set="vol",
    version=1,
    parent=None,
    parent_md5_sha256=None,
    begun="2026-01-01T01:00:00Z",
    ended="2026-01-01T01:00:01Z",
    source=manifest.Source("localhost", "/vol", "file", 0, None),
    block_size=512,
    blocks=manifest.Blocks(0, 0, 0),
    bytes=manifest.Transfer(0, 4, None),
)


@pytest.fixture
def backup_set(tmp_path):
    return chains.new_set(tmp_path)


@pytest.fixture
def parts(backup_set):
    parts = {suffix: backup_set.part(1, suffix) for suffix in ("", ".md5")}
    for part in parts.values():
        part.write(b"\0\2\0\0")
        part.close()
    yield parts
    for part in parts.values():
        part.discard()


def test_a_version_has_its_files_its_manifest_and_its_number_in_ver(backup_set, parts):
    publishing.publish(backup_set, 1, parts, VALUE)

    assert set(files_of(pathlib.Path(backup_set.folder))) == {"vol.1", "vol.1.md5", "vol.1.json", "vol.ver"}
    assert backup_set.newest() == 1
    found = backup_set.read_manifest(1)
    assert found.files == {suffix: backup_set.hash(1, suffix) for suffix in ("", ".md5")}
    assert found.value["bytes"]["stored"] == 4


@pytest.mark.parametrize("with_key", [False, True])
def test_nothing_stays_of_a_version_that_the_last_look_refuses(with_key, backup_set, parts):
    signing = Signer(str(signed.key()), os.environ) if with_key else None

    def refuse():
        raise ForeignFiles("no")

    with pytest.raises(ForeignFiles):
        publishing.publish(backup_set, 1, parts, VALUE, refuse, signing)
    for part in parts.values():
        part.discard()

    assert not os.listdir(backup_set.folder)


def test_nothing_is_published_over_another_runs_version(backup_set, parts):
    def other_run():
        chains.write_version(BackupSet(backup_set.name), b"theirs", 512)
        before.update(files_of(pathlib.Path(backup_set.folder)))

    before = {}
    with pytest.raises(ForeignFiles):
        publishing.publish(backup_set, 1, parts, VALUE, other_run)
    for part in parts.values():
        part.discard()

    left = files_of(pathlib.Path(backup_set.folder))
    assert {name: data for name, data in before.items() if not name.endswith(".part")} == left
    assert backup_set.newest() == 1
