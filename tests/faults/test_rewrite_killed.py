"""A rewrite that is killed anywhere: every version restores in every state, and the next backup ends what was begun."""

import contextlib
import errno
import os
import shutil
import signal

import chains
import pytest
from killed import CALLS, child, path_of
from rewrites import faults, identities, restores, rewrite

from blockdiff import codecs, consolidate
from blockdiff.errors import NoRoom, StoreFailed
from blockdiff.rewriting import merge
from blockdiff.sets import parent, recover
from blockdiff.sets.backupset import BackupSet

BLOCK = 64
FIRST = os.urandom(20 * BLOCK) + bytes(6 * BLOCK) + os.urandom(100)


def volumes():
    """Six versions: blocks change, go back to what they were, and become zeros; the volume grows and shrinks."""
    second = os.urandom(3 * BLOCK) + FIRST[3 * BLOCK :]
    third = FIRST[: 2 * BLOCK] + os.urandom(2 * BLOCK) + FIRST[4 * BLOCK :] + os.urandom(5 * BLOCK)
    fourth = FIRST[: 10 * BLOCK] + bytes(8 * BLOCK) + FIRST[18 * BLOCK :] + os.urandom(30)
    fifth = FIRST[: 24 * BLOCK] + os.urandom(20)
    return dict(enumerate([FIRST, second, third, fourth, fifth, os.urandom(BLOCK) + FIRST[BLOCK:]], 1))


VOLUMES = volumes()


def made(folder, codec):
    """A set of these versions."""
    folder.mkdir()
    backup_set = chains.new_set(folder)
    for volume in VOLUMES.values():
        chains.write_version(backup_set, volume, BLOCK, codec, member=8 * BLOCK)
    return backup_set


def goes_on(backup_set, newest):
    """A backup ends what a dead run began, and makes an incremental of its own."""
    with backup_set.locked():
        assert recover.settle(backup_set, lambda line: None) == newest
        found = parent.find(backup_set, newest, pytest.fail, pytest.fail)
        found.close()
        assert found.parent_number == newest
        return chains.write_version(backup_set, VOLUMES[2], BLOCK)


def onto_2(name):
    return lambda: rewrite(BackupSet(name), 5, 2)


def as_full(name):
    return lambda: rewrite(BackupSet(name), 6, None)


def and_dropped(name):
    return lambda: consolidate.consolidate(BackupSet(name), 5, 2, wait_s=0)


@pytest.mark.parametrize(
    "codec", [codecs.GZIP, pytest.param(codecs.PLAIN, marks=pytest.mark.long)], ids=["gz", "plain"]
)
@pytest.mark.parametrize("work, stay", [(onto_2, VOLUMES), (as_full, VOLUMES), (and_dropped, (1, 2, 5, 6))])
def test_after_a_kill_anywhere_everything_restores(work, stay, codec, tmp_path, monkeypatch):
    """Before and after each sync, rename and removal, of the folds as well."""
    monkeypatch.setattr(merge, "VERSIONS", 2)
    count, after, hits, states = 1, False, 0, set()
    while True:
        backup_set = made(tmp_path / f"at{count}{after}", codec)
        kept = identities(backup_set)

        code, hit = child(backup_set.folder, work(backup_set.name), count, signal.SIGKILL, after)

        if not hit:
            assert code == 0
            break
        hits += 1
        left = {n: VOLUMES[n] for n in sorted(backup_set.listing().versions)}
        assert left.keys() >= set(stay)
        restores(backup_set, left, tmp_path)
        lines = faults(backup_set)
        unfinished = [line for line in lines if "not the file that the manifest" in line or "did not change" in line]
        no_index = [line for line in lines if ".idx is missing or damaged" in line]
        assert not set(lines) - {*unfinished, *no_index}, (count, after, lines)
        states.add((bool(unfinished), bool(no_index)))

        assert goes_on(backup_set, 6) == 7
        left = {n: VOLUMES[n] for n in sorted(backup_set.listing().versions) if n < 7}
        assert left.keys() >= set(stay)
        restores(backup_set, left | {7: VOLUMES[2]}, tmp_path)
        assert not backup_set.listing().parts and not backup_set.listing().dropping
        lines = faults(backup_set)
        assert lines == [] or (no_index and not unfinished and "idx is missing" in lines[0]), (count, after, lines)
        now = identities(backup_set)
        assert all(now[name] == kept[name] for name in now if not name.startswith("vol.7") and name != "vol.ver")
        shutil.rmtree(backup_set.folder)
        count, after = (count, True) if not after else (count + 1, False)
    assert hits > 15
    assert states >= ({(False, False), (True, True), (False, True)} if codec is codecs.GZIP else {(False, False)})


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("work", [onto_2, as_full])
@pytest.mark.parametrize("number, error", [(errno.ENOSPC, NoRoom), (errno.EIO, StoreFailed)], ids=["ENOSPC", "EIO"])
def test_a_call_that_fails_leaves_every_version(number, error, work, name, tmp_path, monkeypatch):
    """Each write, sync, rename and removal in the set's folder, one after the other."""
    monkeypatch.setattr(merge, "VERSIONS", 2)
    real, count, fails = getattr(os, name), 0, 0
    while True:
        count, calls = count + 1, 0
        backup_set = made(tmp_path / str(count), codecs.GZIP)
        folder = backup_set.folder

        def failing(*arguments, folder=folder, count=count, **options):
            nonlocal calls
            ours = path_of(arguments[0]).startswith(folder)
            calls += ours
            if ours and calls == count:
                raise OSError(number, os.strerror(number))
            return real(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(os, name, failing)
            with contextlib.suppress(error):
                work(backup_set.name)()
            done = calls < count
        if done:
            break
        fails += 1
        restores(backup_set, VOLUMES, tmp_path)
        with backup_set.locked():
            assert recover.settle(backup_set, lambda line: None) == 6
        assert not backup_set.listing().parts
        restores(backup_set, VOLUMES, tmp_path)
    restores(backup_set, VOLUMES, tmp_path)
    assert fails > 2 or name in ("pwritev", "ftruncate", "link")
