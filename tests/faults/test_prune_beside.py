"""A prune beside other runs: backups are not stopped by it, nor made to full ones, and readers end right."""

import contextlib
import json
import os
import threading

import nights
import pytest
from conftest import ROOT
from programs import Program

from blockdiff import restore, verify
from blockdiff.sets.backupset import BackupSet

COUNT = pytest.mark.parametrize("count", [25, pytest.param(1000, marks=pytest.mark.long)])


@COUNT
def test_a_loop_of_backups_beside_a_loop_of_prunes(count, run, tmp_path):
    """Each backup succeeds and is an incremental one, and all that is left in the end restores."""
    source, folder, state = tmp_path / "source", tmp_path / "set", {"XDG_STATE_HOME": str(tmp_path / "state")}
    folder.mkdir()
    name, volumes, prunes, ended = folder / "db", {}, [], threading.Event()

    def prune():
        while not ended.is_set():
            prunes.append(run("blockdiff-prune", "--json", "--keep-last", "3", "--exact", name, env=state))

    def back_up(number):
        base = volumes.get(number - 1) or os.urandom(64 * 1024)
        volumes[number] = os.urandom(4096) + base[4096:]
        source.write_bytes(volumes[number])
        done = run("blockdiff-backup", "--json", "--block-size", "4096", name, source, env=state)
        assert done.returncode in (0, 3), done.stderr
        assert json.loads(done.stdout)["kind"] == ("full" if number == 1 else "incremental"), done.stderr

    back_up(1)
    other = threading.Thread(target=prune)
    other.start()
    try:
        for number in range(2, count + 1):
            back_up(number)
    finally:
        ended.set()
        other.join()
    # another prune or a backup may have just changed what one has seen: 12, and the next goes on
    assert {done.returncode for done in prunes} <= {0, 3}, [done.stderr for done in prunes if done.returncode]
    assert sum(json.loads(done.stdout)["go"] for done in prunes) > count // 3
    assert run("blockdiff-prune", "--keep-last", "3", "--exact", name, env=state).returncode == 0
    assert nights.check(BackupSet(str(name)), volumes, tmp_path) == [count - 2, count - 1, count]
    assert verify.verify(BackupSet(str(name))).exit_code == 0 and not BackupSet(str(name)).listing().parts


def test_two_prunes_of_one_set(tmp_path):
    """One of them says that it cannot, or both do a part."""
    backup_set, volumes = nights.new(tmp_path / "set", 30, hot=20, blocks=2000)
    words = [ROOT / "bin" / "blockdiff-prune", "--keep-last", "1", "--keep-weekly", "3", backup_set.name]
    env = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}
    with contextlib.ExitStack() as cleanup:
        both = [cleanup.enter_context(Program([*map(os.fspath, words)], env=env, stdout=-1, stderr=-1)) for _ in "ab"]
        codes = [(process.communicate(timeout=60)[1], process.returncode) for process in both]
    assert all(code in (0, 3, 11, 12) for _, code in codes), codes
    left = nights.check(backup_set, volumes, tmp_path)
    assert {21, 28, 30} <= set(left)
    nights.pruned(backup_set, last=1, weekly=3)
    assert nights.check(backup_set, volumes, tmp_path) == [21, 28, 30]
    assert verify.verify(backup_set).exit_code == 0


@pytest.mark.parametrize("number", [8, 9], ids=["goes", "stays"])
def test_a_restore_that_began_before_ends_right(number, tmp_path):
    """All that it reads is removed or replaced when it is about to read."""
    backup_set, volumes = nights.new(tmp_path / "set", 9)

    @contextlib.contextmanager
    def progress(total):
        nights.pruned(backup_set, last=1)
        yield lambda done: None

    target = tmp_path / "out"
    done = restore.restore(backup_set, number, str(target), progress=progress)
    assert done.failure is None and target.read_bytes() == volumes[number]
    assert nights.numbers(backup_set) == [9]


def test_a_verify_that_began_before_ends_right(tmp_path):
    backup_set, _ = nights.new(tmp_path / "set", 9)

    @contextlib.contextmanager
    def progress(total):
        nights.pruned(backup_set, last=1)
        yield lambda done: None

    report = verify.verify(backup_set, progress=progress)
    assert not report.all_faults and [version.number for version in report.versions] == list(range(1, 10))
