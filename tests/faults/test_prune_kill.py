"""A prune that is killed anywhere: what stays restores, in ours and in the original's loop, and the next run ends it."""

import shutil
import signal

import chains
import nights
import original
import pytest
from killed import child

from blockdiff import verify
from blockdiff.sets import parent, recover
from blockdiff.sets.backupset import BackupSet


def work(name):
    nights.pruned(BackupSet(name), last=2, numbers=frozenset({2}), exact=True)


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.long)], ids=["SIGKILL", "SIGTERM"]
)
def test_after_an_end_anywhere_what_stays_restores_and_the_next_run_goes_on(number, tmp_path):
    """Before and after each sync, rename and removal: 1 goes and 2 becomes a full; 3 goes and 4 stands on 2."""
    _, volumes = nights.new(tmp_path / "first", 5)
    count, after, hits, seen = 1, False, 0, set()
    while True:
        folder = tmp_path / f"at{count}{after}"
        shutil.copytree(tmp_path / "first", folder)
        name = str(folder / "vol")

        code, hit = child(str(folder), lambda name=name: work(name), count, number, after)

        if not hit:
            assert code == 0
            break
        hits += 1
        assert code in (-signal.SIGKILL, 143), (count, after)
        left = nights.check(BackupSet(name), volumes, tmp_path)
        assert {2, 4, 5} <= set(left), (count, after)
        for version in (2, 4, 5):
            assert original.merged(name, version) == volumes[version], (count, after, version)
        seen.add(tuple(left))
        (goes_on if (count + after) % 2 else backs_up)(name, volumes, tmp_path)
        count, after = (count, True) if not after else (count + 1, False)
        shutil.rmtree(folder)
    assert hits > 60 and len(seen) == 3, seen


def goes_on(name, volumes, folder):
    """The next prune ends what was begun."""
    work(name)
    assert nights.check(BackupSet(name), volumes, folder) == [2, 4, 5]
    assert verify.verify(BackupSet(name)).exit_code == 0 and not BackupSet(name).listing().parts


def backs_up(name, volumes, folder):
    """The next backup makes an incremental version."""
    backup_set = BackupSet(name)
    with backup_set.locked():
        newest = recover.settle(backup_set, lambda line: None)
        found = parent.find(backup_set, newest, pytest.fail, pytest.fail)
        found.close()
        assert found.parent_number == 5
        chains.write_version(backup_set, volumes[1], nights.BLOCK)
    assert {2, 4, 5, 6} <= set(nights.check(backup_set, {**volumes, 6: volumes[1]}, folder))
    report = verify.verify(backup_set)
    assert not report.all_faults and not backup_set.listing().parts
    # the index goes first; one that died just then leaves none
    assert all(".idx is missing" in line for line in report.all_warnings), report.all_warnings
