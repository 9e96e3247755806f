"""Removing versions: what must stay is refused, and a run that is killed anywhere leaves a set that goes on."""

import os
import signal

import chains
import pytest
from killed import child

from blockdiff import restore
from blockdiff.errors import ChainBroken, ForeignFiles, NoSuchVersion
from blockdiff.sets import chain, drop, parent, recover, versions
from blockdiff.sets.backupset import BackupSet

FULLS = (1, 4)
VOLUMES = [bytes([n]) * 100 + os.urandom(100) for n in range(1, 7)]


@pytest.fixture
def backup_set(tmp_path):
    return made(tmp_path / "set")


def made(folder):
    folder.mkdir()
    backup_set = chains.new_set(folder)
    for number, volume in enumerate(VOLUMES, 1):
        chains.write_version(backup_set, volume, 64, full=number in FULLS)
    return backup_set


def restores(backup_set, number, folder):
    target = folder / "out"
    done = restore.restore(backup_set, number, str(target))
    assert done.failure is None and target.read_bytes() == VOLUMES[number - 1]
    target.unlink()


def names_of(backup_set, number):
    return sorted(name for name in os.listdir(backup_set.folder) if name.startswith(f"vol.{number}."))


def test_nothing_is_left_of_them_and_the_others_restore(backup_set, tmp_path):
    drop.drop(backup_set, [1, 2, 3])

    assert sorted(backup_set.listing().versions) == [4, 5, 6]
    assert not any(names_of(backup_set, number) for number in (1, 2, 3))
    for number in (4, 5, 6):
        restores(backup_set, number, tmp_path)


@pytest.mark.parametrize("numbers", [[1], [2], [1, 2], [4], [5], [1, 2, 3, 4]], ids=str)
def test_what_another_version_needs_stays(numbers, backup_set):
    before = sorted(os.listdir(backup_set.folder))
    with pytest.raises(ChainBroken):
        drop.drop(backup_set, numbers)
    assert sorted(os.listdir(backup_set.folder)) == before


def test_the_newest_one_and_one_that_a_person_keeps_stay(backup_set):
    before = sorted(os.listdir(backup_set.folder))
    with pytest.raises(ForeignFiles):
        drop.drop(backup_set, [4, 5, 6])
    keep = f"{backup_set.path(3, '')}.keep"
    open(keep, "x").close()
    with pytest.raises(ForeignFiles, match=r"vol\.3\.keep"):
        drop.drop(backup_set, [3])
    os.unlink(keep)
    assert sorted(os.listdir(backup_set.folder)) == before


def test_a_version_whose_files_do_not_show_what_it_needs_keeps_the_one_before(backup_set):
    path = backup_set.path(3, ".json")
    with open(path, "r+b") as file:
        file.write(b"x")
    with pytest.raises(ChainBroken):
        drop.drop(backup_set, [2])


def test_files_of_no_version_stay(backup_set):
    others = ["vol.11.gz", "vol.1.gz.bak", "vol.2024.tar", "vol.1.2.gz", "volx.1.gz", "vol.01.gz"]
    inodes = {}
    for name in others:
        path = os.path.join(backup_set.folder, name)
        open(path, "x").close()
        inodes[name] = os.stat(path).st_ino
    os.unlink(os.path.join(backup_set.folder, "vol.11.gz"))  # it would be a version above the newest
    drop.drop(backup_set, [1, 2, 3])
    for name in others[1:]:
        assert os.stat(os.path.join(backup_set.folder, name)).st_ino == inodes[name]


def test_one_that_is_being_removed_is_no_version(backup_set):
    os.rename(backup_set.path(3, ".md5"), backup_set.path(3, ".md5.part"))

    listing = backup_set.listing()
    assert listing.dropping == {3} and 3 not in listing.versions
    with pytest.raises(NoSuchVersion):
        versions.version(backup_set, 3, listing)
    with pytest.raises(NoSuchVersion):
        chain.chain_of(backup_set, 3, listing)


def dropped(backup_set, numbers):
    with backup_set.locked():
        recover.settle(backup_set, lambda line: None)
        drop.drop(backup_set, numbers)


def test_after_a_kill_anywhere_the_others_restore_and_the_next_backup_ends_it(tmp_path):
    """Before and after each sync, rename and removal."""
    count, after, hits = 1, False, 0
    while True:
        backup_set = made(tmp_path / f"at{count}{after}")
        folder = backup_set.folder

        code, hit = child(folder, lambda it=backup_set: dropped(it, [1, 2, 3]), count, signal.SIGKILL, after)

        if not hit:
            assert code == 0
            break
        hits += 1
        begun = BackupSet(backup_set.name)
        left = sorted(begun.listing().versions)
        assert left in ([1, 2, 3, 4, 5, 6], [1, 2, 4, 5, 6], [1, 4, 5, 6], [4, 5, 6]), (count, after)
        for number in left:
            restores(begun, number, tmp_path)
        with begun.locked():
            newest = recover.settle(begun, lambda line: None)
            found = parent.find(begun, newest, pytest.fail, pytest.fail)
            found.close()
            assert found.parent_number == 6
            chains.write_version(begun, VOLUMES[0], 64)
        listing = begun.listing()
        assert not listing.dropping and not listing.parts
        assert not any(names_of(begun, number) for number in (1, 2, 3) if number not in left)
        count, after = (count, True) if not after else (count + 1, False)
    assert hits > 30
