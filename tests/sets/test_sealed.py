"""A set of which every file is sealed: read with the key, refused without it."""

import random

import chains
import pytest

from blockdiff import restore, verify
from blockdiff.errors import Sealed
from blockdiff.place import choose
from blockdiff.place.base import Access
from blockdiff.sealing.keys import Identity, Recipient
from blockdiff.sets import catalogue
from blockdiff.sets.backupset import BackupSet

KEYS = [Identity(bytes([number] * 32)) for number in (1, 2)]


@pytest.fixture
def made(tmp_path):
    """Return a set, its volumes, and the folder of its sealed copy, for the first key."""
    backup_set, volumes = chains.new_set(tmp_path), [random.Random(n).randbytes(10 * 512) for n in range(3)]
    for volume in volumes:
        chains.write_version(backup_set, volume, 512)
    folder = tmp_path / "sealed"
    folder.mkdir()
    place = choose.at(str(folder), Access(recipients=(Recipient(KEYS[0].public),)))
    for name in sorted(backup_set.place.names()):
        if not name.startswith("vol.") or name.endswith((".lock", ".xxh128")):
            continue
        part = place.part(name, "r0123456789abcdef")
        part.write(backup_set.place.open(backup_set.place.path(name)).pread(1 << 20, 0))
        part.close()
        part.publish()
        part.release()
    return backup_set, volumes, folder


def test_with_the_key_it_is_the_set(made, tmp_path):
    backup_set, volumes, folder = made
    sealed = BackupSet(str(folder / "vol"), Access(identities=(KEYS[0],)))
    listed, plain = catalogue.describe(sealed), catalogue.describe(backup_set)
    assert not listed.problems and [entry.restores for entry in listed.versions] == [True] * 3
    assert [entry.changed for entry in listed.versions] == [entry.changed for entry in plain.versions]
    assert verify.verify(sealed).exit_code == 0
    for number, volume in enumerate(volumes, 1):
        restore.restore(sealed, number, str(tmp_path / "out"), force=True)
        assert (tmp_path / "out").read_bytes() == volume


@pytest.mark.parametrize("access", [Access(), Access(identities=(KEYS[1],))])
def test_without_the_key_nothing_is_told(made, access):
    _, _, folder = made
    sealed = BackupSet(str(folder / "vol"), access)
    with pytest.raises(Sealed) as caught:
        restore.restore(sealed, None, str(folder / "out"))
    assert caught.value.exit_code == 55 and not (folder / "out").exists()


def test_any_byte_that_is_flipped_is_found(made):
    _, _, folder = made
    chance = random.Random(3)
    for path in sorted(folder.glob("*.age")):
        whole = path.read_bytes()
        for place in chance.sample(range(len(whole)), 6):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << chance.randrange(8)]) + whole[place + 1 :])
            sealed = BackupSet(str(folder / "vol"), Access(identities=(KEYS[0],)))
            found = verify.verify(sealed)
            codes = (3,) if path.name.endswith(".idx.age") else (50, 51, 52, 55)
            assert found.exit_code in codes, (path.name, place)
        path.write_bytes(whole)
