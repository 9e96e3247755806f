"""Readers beside a run that publishes, and beside what they may not read."""

import contextlib
import json
import os
import threading

import chains
import pytest

from blockdiff import restore, verify
from blockdiff.errors import BlockdiffError, ChainBroken, NoSuchSet, StoreUnreadable
from blockdiff.sets import catalogue, parent
from blockdiff.sets.backupset import BackupSet

BLOCK = 64


def volume():
    return os.urandom(4 * BLOCK)


def written(folder, count, base="vol"):
    return chains.random_set(folder, count, BLOCK, blocks=4, base=base)


def read_all(backup_set, target):
    """What verify, list and merge say of a set: the newest version, exit codes, and warnings."""
    listed = catalogue.describe(backup_set)
    found = verify.verify(backup_set, threads=1)
    done = restore.restore(backup_set, None, target, threads=1)
    os.unlink(target)
    said = [str(problem) for problem in listed.problems] + found.all_warnings + done.warnings
    said += [str(fault) for fault in found.all_faults]
    codes = (found.exit_code, done.exit_code, *(problem.exit_code for problem in listed.problems))
    return (listed.newest, len(found.versions), done.version), codes, said


@pytest.mark.parametrize("before", [0, 1, 2])
def test_a_version_that_is_published_between_any_two_looks(before, tmp_path, monkeypatch):
    """All of another run between any two calls by which a reader looks at the folder."""
    count, hit = 0, True
    while hit:
        count, hit, calls = count + 1, False, 0
        folder = tmp_path / f"at{count}"
        folder.mkdir()
        backup_set = written(folder, before)
        with monkeypatch.context() as patched:
            for module, name in ((os, "listdir"), (os, "open")):

                def called(*args, real=getattr(module, name), **kwargs):
                    nonlocal calls, hit
                    calls += 1
                    if calls == count:
                        hit = True
                        chains.write_version(BackupSet(backup_set.name), volume(), BLOCK)
                    return real(*args, **kwargs)

                patched.setattr(module, name, called)
            try:
                seen, codes, said = read_all(backup_set, str(tmp_path / "out"))
            except NoSuchSet:
                assert before == 0
                continue
        assert set(codes) == {0}, (count, said)
        assert set(seen) <= {before, before + 1} and not said
    assert count > 2


@pytest.mark.parametrize("before", [0, 1])
def test_a_run_that_is_just_publishing_is_waited_for(before, tmp_path, monkeypatch):
    """The version's files have their names, and .ver does not name it yet."""
    backup_set = written(tmp_path, before)
    stands, go_on = threading.Event(), threading.Event()
    real = os.rename

    def slow(*args):
        stands.set()
        assert go_on.wait(10)
        real(*args)

    monkeypatch.setattr(os, "rename", slow)
    thread = threading.Thread(target=chains.write_version, args=(BackupSet(backup_set.name), volume(), BLOCK))
    thread.start()
    try:
        assert stands.wait(10)
        timer = threading.Timer(0.1, go_on.set)
        timer.start()
        found = verify.verify(backup_set)
    finally:
        go_on.set()
        thread.join()
    assert (found.exit_code, len(found.versions)) == (0, before + 1)


def test_a_loop_of_readers_beside_a_loop_of_runs(tmp_path):
    backup_set = written(tmp_path, 1)
    errors, ended = [], threading.Event()

    def publish():
        try:
            for _ in range(40):
                with BackupSet(backup_set.name).locked():
                    chains.write_version(BackupSet(backup_set.name), volume(), BLOCK)
        finally:
            ended.set()

    thread = threading.Thread(target=publish)
    thread.start()
    seen = []
    while not ended.is_set():
        try:
            newest, codes, said = read_all(backup_set, str(tmp_path / "out"))
        except BlockdiffError as error:
            errors.append(error)
            continue
        seen.append(newest)
        if set(codes) != {0}:
            errors.append(said)
    thread.join()
    assert not errors and seen
    assert read_all(backup_set, str(tmp_path / "out"))[0] == (41, 41, 41)


def test_what_a_dead_run_left_is_still_told(tmp_path):
    backup_set = written(tmp_path, 2)
    backup_set.publish_ver(1)
    found = verify.verify(backup_set)
    assert found.exit_code == 3 and "there are files of version 2" in found.warnings[0]


# what may not be read


@contextlib.contextmanager
def somebody_else(folder):
    """Be an account that may not read everything, where the tests run as root."""
    folder.chmod(0o755)
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_set(disk):
    """A folder that any account can search, with a set of 4 versions in it whose third one is a full."""
    disk.chmod(0o755)
    for path in disk.parents:
        if not os.stat(path).st_mode & 1:
            pytest.skip("another account cannot reach the folder")
    backup_set = chains.new_set(disk)
    for number in range(1, 5):
        chains.write_version(backup_set, volume(), BLOCK, full=number == 3)
    for name in os.listdir(disk):
        os.chmod(disk / name, 0o644)
    return disk, backup_set


@pytest.mark.parametrize("suffix", [".gz", ".md5", ".json"])
def test_what_may_not_be_read_is_not_lost(suffix, open_set):
    folder, backup_set = open_set
    os.chmod(backup_set.path(1, suffix), 0)

    with somebody_else(folder):
        found = verify.verify(backup_set)

    assert found.exit_code == 17
    assert [v.restores for v in found.versions] == [False, False, True, True]
    assert [v.unknown for v in found.versions] == [True, True, False, False]
    assert not any(v.lost_bytes for v in found.versions)
    (fault,) = found.versions[0].faults
    assert isinstance(fault, StoreUnreadable)
    assert str(fault) == f"cannot read {backup_set.path(1, suffix)}: Permission denied"
    (broken,) = found.versions[1].faults
    assert isinstance(broken, ChainBroken) and "version 1 cannot be read" in str(broken)


def test_what_is_damaged_is_lost_all_the_same(open_set):
    folder, backup_set = open_set
    os.chmod(backup_set.path(1, ".gz"), 0)
    os.truncate(backup_set.path(2, ".gz"), 40)
    os.truncate(backup_set.path(3, ".gz"), 40)

    with somebody_else(folder):
        found = verify.verify(backup_set)

    assert [v.lost_bytes > 0 for v in found.versions] == [False, True, True, False], "version 4 has every block anew"
    assert [v.unknown for v in found.versions] == [True, True, False, False]


def test_a_set_that_may_not_be_read_is_not_built_upon_and_not_said_to_be_written(open_set):
    folder, backup_set = open_set
    os.chmod(backup_set.path(4, ".md5"), 0)

    with somebody_else(folder), pytest.raises(StoreUnreadable) as caught:
        parent.find(backup_set, 4, pytest.fail, pytest.fail, auto_full=False)

    assert str(caught.value).startswith("cannot read ")


def test_verify_says_that_it_is_not_known(run, open_set, tmp_path):
    """A folder in the place of a file cannot be read by root either."""
    _, backup_set = open_set
    for suffix in (".json", ".idx"):
        os.unlink(backup_set.path(1, suffix))
    os.unlink(backup_set.path(1, ".gz"))
    os.mkdir(backup_set.path(1, ".gz"))

    done = run("blockdiff-verify", backup_set.name, env={"XDG_STATE_HOME": str(tmp_path)})

    assert done.returncode == 17
    assert "cannot read" in done.stderr and "cannot write" not in done.stderr


def test_list_goes_on_after_a_set_that_cannot_be_read(run, tmp_path):
    sets = [written(tmp_path, 1, base) for base in ("a", "b", "c")]
    os.unlink(sets[1].name + ".ver")
    os.mkdir(sets[1].name + ".ver")

    done, told = run("blockdiff-list", tmp_path), run("blockdiff-list", "--json", tmp_path)

    assert (done.returncode, told.returncode) == (17, 17)
    for backup_set in (sets[0], sets[2]):
        assert f"{backup_set.name}: 1 versions" in done.stdout
    assert done.stderr == f"blockdiff: cannot read {sets[1].name}.ver: Is a directory\n"
    a, b, c = json.loads(told.stdout)["sets"]
    assert (len(a["versions"]), len(c["versions"])) == (1, 1)
    assert b["problems"] == [f"cannot read {sets[1].name}.ver: Is a directory"]


def test_list_goes_on_after_a_name_that_there_is_not(run, tmp_path):
    backup_set = written(tmp_path, 1)
    done = run("blockdiff-list", tmp_path / "none", backup_set.name)
    assert done.returncode == 10 and f"{backup_set.name}: 1 versions" in done.stdout and "no such set" in done.stderr


def test_an_adopted_version_is_a_note(run, tmp_path):
    backup_set = written(tmp_path, 2)
    backup_set.publish_ver(1)
    (tmp_path / "source").write_bytes(volume())
    done = run("blockdiff-backup", "--new-source", backup_set.name, tmp_path / "source")
    assert done.returncode == 0
    assert "adopted" in done.stderr and "warning" not in done.stderr
    assert BackupSet(backup_set.name).newest() == 3


def test_a_file_that_is_missing_is_said_to_be(tmp_path):
    backup_set = written(tmp_path, 2)
    os.unlink(backup_set.path(2, ".gz"))
    found = verify.verify(backup_set)
    assert [str(fault) for fault in found.all_faults] == [f"{backup_set.path(2, '.gz')} is missing"]
    assert found.exit_code == 51
