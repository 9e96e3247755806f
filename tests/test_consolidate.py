"""A version made a full, or put onto an older one: what is removed, refused, waited for, and begun once more."""

import os

import chains
import pytest
from rewrites import faults, restores, rewrite

from blockdiff import consolidate
from blockdiff.blocks.parallel import silent
from blockdiff.errors import ChainBroken, ForeignFiles, NoSuchVersion, SetChanged, SetLocked
from blockdiff.rewriting.plan import NotInChain
from blockdiff.sets.backupset import BackupSet

FIRST = os.urandom(2000)
VOLUMES = {n: os.urandom(100 * n) + FIRST[100 * n :] for n in range(1, 6)}


@pytest.fixture
def backup_set(tmp_path):
    made = chains.new_set(tmp_path)
    for volume in VOLUMES.values():
        chains.write_version(made, volume, 64)
    return made


def done(backup_set, number=None, onto=None, **how):
    return consolidate.consolidate(backup_set, number, onto, wait_s=0, **how)


def test_the_newest_becomes_a_full_and_the_others_stay(backup_set, tmp_path):
    found = done(backup_set)

    assert (found.version, found.onto, found.versions, found.dropped, found.exit_code) == (5, None, 5, [], 0)
    assert found.stored == backup_set.size(5, ".gz")
    assert backup_set.read_manifest(5).full
    restores(backup_set, VOLUMES, tmp_path)
    assert faults(backup_set) == []
    assert done(backup_set).already


def test_those_between_are_removed(backup_set, tmp_path):
    found = done(backup_set, 4, 1)

    assert (found.versions, found.dropped) == (3, [2, 3])
    assert sorted(backup_set.listing().versions) == [1, 4, 5]
    restores(backup_set, {n: VOLUMES[n] for n in (1, 4, 5)}, tmp_path)
    assert faults(backup_set) == []
    assert done(backup_set, 4, 1).already


def test_a_dry_run_changes_nothing(backup_set):
    before = sorted(os.listdir(backup_set.folder))
    found = done(backup_set, 5, 2, dry_run=True)
    assert (found.dropped, found.versions, found.stored) == ([3, 4], 3, 0)
    assert sorted(os.listdir(backup_set.folder)) == before
    assert backup_set.read_manifest(5).parent == 4


def test_one_that_a_person_keeps_is_not_passed_over(backup_set):
    open(f"{backup_set.path(3, '')}.keep", "x").close()
    with pytest.raises(ForeignFiles, match=r"3\.keep"):
        done(backup_set, 5, 2)
    assert backup_set.read_manifest(5).parent == 4


def test_one_that_another_version_needs_is_not_passed_over(backup_set):
    chains.write_version(backup_set, VOLUMES[5], 64)
    rewrite(backup_set, 6, 4)
    with pytest.raises(ChainBroken, match="it needs version 4"):
        done(backup_set, 5, 2)
    assert backup_set.read_manifest(5).parent == 4


@pytest.mark.parametrize("number, onto, error", [(6, None, NoSuchVersion), (5, 5, NotInChain), (3, 4, NotInChain)])
def test_what_there_is_not(number, onto, error, backup_set):
    with pytest.raises(error):
        done(backup_set, number, onto)


def test_a_set_that_is_locked(backup_set):
    with BackupSet(backup_set.name).locked(), pytest.raises(SetLocked):
        done(backup_set)


def test_it_begins_once_more_if_another_run_removes_what_it_is_about_to_read(backup_set, tmp_path):
    lines = []

    def progress(size):
        if sorted(backup_set.listing().versions) == [1, 2, 3, 4, 5]:
            assert done(backup_set, 4, 2).dropped == [3]
        return silent(size)

    assert done(backup_set, progress=progress, note=lines.append).versions == 4
    assert len(lines) == 1
    restores(backup_set, {n: VOLUMES[n] for n in (1, 2, 4, 5)}, tmp_path)


@pytest.mark.parametrize("times", [1, 2])
def test_it_begins_once_more_if_the_set_changes_and_only_once(times, backup_set, tmp_path):
    changes, lines = [], []

    def proving(size):
        if len(changes) < times:
            changes.append(size)
            os.utime(backup_set.path(3, ".json"), (1, len(changes)))
        return silent(size)

    if times == 1:
        assert done(backup_set, proving=proving, note=lines.append).stored
    else:
        with pytest.raises(SetChanged) as caught:
            done(backup_set, proving=proving, note=lines.append)
        assert caught.value.exit_code == 12
    assert len(lines) == 1
    assert backup_set.read_manifest(5).full == (times == 1)
    assert not backup_set.listing().parts
    restores(backup_set, VOLUMES, tmp_path)
