"""A copy that is killed, or a call of which fails, anywhere: what was copied restores, and the next copy ends it."""

import errno
import os
import pathlib
import shutil
import signal

import chains
import pytest
from killed import CALLS, child, path_of
from rewrites import faults

from blockdiff import copy
from blockdiff.errors import NoRoom, StoreFailed
from blockdiff.sets import backupset
from blockdiff.sets.backupset import BackupSet

BLOCK = 64
FIRST = os.urandom(12 * BLOCK + 5)
NUMBERS = (3, 4, 5)  # which are copied: a full of ours, an incremental, and one of the original


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setattr(backupset, "_PATIENCE_S", 0)  # nobody is just publishing
    (tmp_path / "here").mkdir()
    made = chains.new_set(tmp_path / "here")
    for number in range(1, 5):
        chains.write_version(made, os.urandom(number * BLOCK) + FIRST[number * BLOCK :], BLOCK, full=number == 3)
    chains.write_version(made, os.urandom(2 * BLOCK) + FIRST[2 * BLOCK :], BLOCK, original=True)
    return made


def contents(folder):
    return {path.name: path.read_bytes() for path in pathlib.Path(folder).iterdir() if path.name != "vol.lock"}


def wanted(source, newest):
    """What a copy of the versions up to this one has."""
    begins = tuple(f"vol.{number}" for number in NUMBERS if number <= newest)
    found = {name: data for name, data in contents(source.folder).items() if name.startswith(begins)} if begins else {}
    return found | ({"vol.ver": b"%d\n" % newest} if newest else {})


def is_a_set(dest, source):
    """Everything that is published there is whole; returns its newest version."""
    listing = dest.listing()
    newest = int(listing.ver) if listing.ver else 0
    there = contents(dest.folder)
    assert there.items() >= wanted(source, newest).items(), sorted(there)
    if newest:
        assert not [line for line in faults(dest) if "names version" not in line]
    return newest


def ends(dest, source):
    """The next copy copies the rest, and leaves nothing else."""
    done = copy.copy(source, dest)
    assert done.faults == [], done
    assert contents(dest.folder) == wanted(source, NUMBERS[-1])
    assert faults(dest) == []
    return done


def test_after_a_kill_anywhere_the_next_copy_ends_it(source, tmp_path):
    """Before and after each sync, link, rename and removal."""
    count, after, states, adopted = 1, False, set(), 0
    while True:
        folder = tmp_path / f"at{count}{after}"
        folder.mkdir()
        dest = BackupSet(str(folder / "vol"))
        code, hit = child(str(folder), lambda dest=dest: copy.copy(source, dest), count, signal.SIGKILL, after)
        if not hit:
            assert code == 0
            break
        newest = is_a_set(dest, source)
        states.add((newest, frozenset(name[4:] for name in contents(folder) if not name.endswith(".part"))))
        done = ends(dest, source)
        adopted += sum("adopted" in line for line in done.warnings)
        assert [one.number for one in done.versions] == [n for n in NUMBERS if n > done.before]
        shutil.rmtree(folder)
        count, after = (count, True) if not after else (count + 1, False)
    assert count > 40 and {newest for newest, _ in states} == {0, 3, 4, 5}
    assert adopted > 6  # before and after the syncs of each version


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_ended_leaves_only_whole_versions(number, source, tmp_path):
    for count in range(1, 60, 7):
        folder = tmp_path / str(count)
        folder.mkdir()
        dest = BackupSet(str(folder / "vol"))
        child(str(folder), lambda dest=dest: copy.copy(source, dest), count, number, False)
        assert not dest.listing().parts
        is_a_set(dest, source)
        ends(dest, source)


@pytest.mark.parametrize("name", [call for call in CALLS if call not in ("pwritev", "ftruncate")])
@pytest.mark.parametrize("number, error", [(errno.ENOSPC, NoRoom), (errno.EIO, StoreFailed)], ids=["ENOSPC", "EIO"])
def test_a_call_that_fails_leaves_whole_versions(number, error, name, source, tmp_path, monkeypatch):
    """Each write, sync, link, rename and removal there, one after the other."""
    real, count = getattr(os, name), 0
    while True:
        count, calls = count + 1, 0
        folder = tmp_path / str(count)
        folder.mkdir()
        dest = BackupSet(str(folder / "vol"))

        def failing(*arguments, folder=str(folder), count=count, **options):
            nonlocal calls
            ours = path_of(arguments[0]).startswith(folder)
            calls += ours
            if ours and calls == count:
                raise OSError(number, os.strerror(number))
            return real(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(os, name, failing)
            done = copy.copy(source, dest)
        if calls < count:
            break
        assert done.faults == [] or [type(fault) for fault in done.faults] == [error]
        assert is_a_set(dest, source) >= max((one.number for one in done.versions), default=0)
        assert not dest.listing().parts
        ends(dest, source)
        shutil.rmtree(folder)
    assert done.faults == [] and count > 2
