"""Two runs of one set where the lock does not keep them apart: one publishes, the other says so and takes nothing.

A lock file that was removed does that here, as a file system of a network without locks does elsewhere.
"""

import contextlib
import errno
import fcntl
import os
import stat
import threading

import chains
import pytest
from engine import back_up, files_of, local_agent, restored

from blockdiff import verify
from blockdiff.errors import ForeignFiles, SetLocked
from blockdiff.sets import parent, recover
from blockdiff.sets.backupset import BackupSet

BLOCK = 64
FIRST, OURS, THEIRS = (os.urandom(10 * BLOCK) for _ in range(3))
CALLS = ("open", "fsync", "link", "unlink", "rename", "listdir")


def write(folder, volume, codec=chains.codecs.GZIP):
    """Write a version as a backup does: the set locked and settled, its parent proved."""
    backup_set = BackupSet(str(folder / "db"))
    with backup_set.locked():
        newest = recover.settle(backup_set, lambda line: None)
        parent.find(backup_set, newest, pytest.fail, pytest.fail).close()
        return chains.write_version(backup_set, volume, BLOCK, codec)


def unlocked(folder):
    """Take the lock file away, as somebody may who believes that it is stale."""
    with contextlib.suppress(FileNotFoundError):
        (folder / "db.lock").unlink()


@pytest.mark.parametrize("codec", [chains.codecs.GZIP, chains.codecs.ZSTD], ids=["same", "other"])
@pytest.mark.parametrize("before", [0, 1])
def test_another_run_at_any_moment(before, codec, tmp_path, monkeypatch):
    """All of another run between any two calls of one: exactly one of them publishes."""
    winners, count = set(), 0
    while True:
        count += 1
        folder = tmp_path / f"at{count}"
        folder.mkdir()
        for _ in range(before):
            write(folder, FIRST)
        calls, other = 0, None
        with monkeypatch.context() as patched:
            for name in CALLS:

                def called(*args, real=getattr(os, name), **kwargs):
                    nonlocal calls, other
                    calls += 1
                    if calls == count:
                        unlocked(folder)
                        try:
                            other = write(folder, THEIRS, codec)
                        except (SetLocked, ForeignFiles) as error:
                            other = error
                    return real(*args, **kwargs)

                patched.setattr(os, name, called)
            try:
                one = write(folder, OURS)
            except (SetLocked, ForeignFiles) as error:
                one = error
        if other is None:
            assert one == before + 1
            break
        done = [volume for volume, result in ((OURS, one), (THEIRS, other)) if isinstance(result, int)]
        if done == [OURS, THEIRS]:  # the other one began before or after
            assert {one, other} == {before + 1, before + 2}
            done.sort(key=lambda volume: one if volume is OURS else other)
        else:
            assert len(done) == 1, (count, one, other)
            winners.add(done[0])
        unlocked(folder)
        for number, volume in enumerate([FIRST] * before + done, 1):
            assert restored(folder / "db", number, tmp_path / "out") == volume, (count, one, other)
        assert verify.verify(BackupSet(str(folder / "db"))).exit_code == 0, (count, one, other)
        assert write(folder, FIRST) == before + len(done) + 1
        assert not [name for name in os.listdir(folder) if name.endswith(".part")]
    assert winners == {OURS, THEIRS}, "the other run was not where it should have been"


def test_two_backups_after_the_lock_was_removed(tmp_path):
    """The other one begins and ends while the first one waits for its agent."""
    source, other = tmp_path / "source", tmp_path / "other"
    source.write_bytes(OURS)
    other.write_bytes(THEIRS)

    def connect():
        unlocked(tmp_path)
        assert back_up(tmp_path / "db", other, block_size=BLOCK).version == 1
        return local_agent()()

    with pytest.raises(ForeignFiles) as caught:
        back_up(tmp_path / "db", source, block_size=BLOCK, connect=connect)

    assert "changed by another run" in str(caught.value)
    assert restored(tmp_path / "db", 1, tmp_path / "out") == THEIRS


def changed_at(call, folder, number, monkeypatch, when=lambda *args: True):
    """Have NAME.ver say another number at a call of a module's function: somebody, or a tool without locks."""
    module, name = call
    real = getattr(module, name)

    def called(*args):
        if when(*args):
            (folder / "db.ver").write_bytes(b"%d\n" % number)
        return real(*args)

    monkeypatch.setattr(module, name, called)


def test_ver_that_is_changed_at_the_last_moment(tmp_path, monkeypatch):
    write(tmp_path, FIRST)
    write(tmp_path, OURS)
    before = files_of(tmp_path)
    changed_at((os, "link"), tmp_path, 1, monkeypatch, lambda source, target: target.endswith(".json"))

    with pytest.raises(ForeignFiles, match=r"db\.ver was changed by another run"):
        write(tmp_path, THEIRS)

    assert files_of(tmp_path) == before | {"db.ver": b"1\n"}


def test_ver_that_is_changed_while_a_run_begins(tmp_path, monkeypatch):
    """What was a dead run's a moment ago is published now, whatever is wrong with it."""
    write(tmp_path, FIRST)
    write(tmp_path, OURS)
    (tmp_path / "db.ver").write_bytes(b"1\n")
    os.truncate(tmp_path / "db.2.gz", 50)
    before = files_of(tmp_path)
    gz = os.stat(tmp_path / "db.2.gz").st_ino
    changed_at((fcntl, "flock"), tmp_path, 2, monkeypatch, lambda fd, operation: os.fstat(fd).st_ino == gz)

    with pytest.raises(ForeignFiles, match=r"db\.ver was changed by another run"):
        write(tmp_path, THEIRS)

    assert files_of(tmp_path) == before | {"db.ver": b"2\n"}


def test_temporary_files_of_a_run_that_lives_are_not_swept(tmp_path):
    backup_set = BackupSet(str(tmp_path / "db"))
    part = backup_set.part(1, ".gz")
    (tmp_path / "source").write_bytes(OURS)

    with pytest.raises(SetLocked):
        back_up(tmp_path / "db", tmp_path / "source")

    assert os.path.exists(part.path)
    part.release()  # as the end of its process does
    assert back_up(tmp_path / "db", tmp_path / "source").version == 1
    assert not os.path.exists(part.path)


def test_temporary_files_under_the_names_of_before_are_swept(tmp_path):
    (tmp_path / "db.1.gz.part").write_bytes(b"of a run of an earlier version of the program")
    (tmp_path / "db.ver.part").write_bytes(b"1\n")
    (tmp_path / "source").write_bytes(OURS)

    assert back_up(tmp_path / "db", tmp_path / "source").version == 1

    assert not [name for name in files_of(tmp_path) if name.endswith(".part")]


def test_a_lock_file_that_is_replaced_while_it_is_taken(tmp_path, monkeypatch):
    """A lock on a file that has its name no more is none."""
    real, times = fcntl.flock, []

    def replaced(fd, operation):
        real(fd, operation)
        times.append(fd)
        if len(times) == 1:
            unlocked(tmp_path)

    monkeypatch.setattr(fcntl, "flock", replaced)
    with BackupSet(str(tmp_path / "db")).locked():
        monkeypatch.undo()
        with pytest.raises(SetLocked), BackupSet(str(tmp_path / "db")).locked(0):
            pass
    assert len(times) == 2


def modes(folder):
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


@pytest.mark.parametrize("umask", [0, 0o777], ids=["umask-0", "umask-777"])
def test_every_file_is_for_its_owner_only(umask, tmp_path, monkeypatch):
    folder = tmp_path / "set"
    folder.mkdir()
    source = tmp_path / "source"
    source.write_bytes(OURS)
    seen = {}
    real = os.link

    def link(*args):
        seen.update(modes(folder))
        return real(*args)

    monkeypatch.setattr(os, "link", link)
    old = os.umask(umask)
    try:
        back_up(folder / "db", source)
    finally:
        os.umask(old)
    assert any(name.endswith(".part") for name in seen)
    assert set(seen.values()) == set(modes(folder).values()) == {0o600}


def test_a_lock_file_that_others_can_open_is_made_ours(tmp_path):
    (tmp_path / "db.lock").touch(0o666)
    (tmp_path / "db.lock").chmod(0o666)
    with BackupSet(str(tmp_path / "db")).locked():
        assert modes(tmp_path) == {"db.lock": 0o600}


@pytest.mark.parametrize("kind", ["file", "symlink"])
def test_a_file_that_somebody_made_before_is_not_written_to(kind, tmp_path, monkeypatch):
    """Whoever opened it before us, or put a link there, does not get to read what we write."""
    monkeypatch.setattr(os, "urandom", lambda count: bytes(count))  # the name is known
    path = tmp_path / ("db.1.gz.r" + "0" * 16 + ".part")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"")
    if kind == "file":
        os.link(elsewhere, path)
    else:
        path.symlink_to(elsewhere)
    part = BackupSet(str(tmp_path / "db")).part(1, ".gz")
    part.write(b"secret")
    part.discard()
    assert elsewhere.read_bytes() == b"" and elsewhere.exists()


def test_two_that_publish_at_the_very_same_time(tmp_path, monkeypatch):
    """Threads that meet before the first name: one has it."""
    meet, results, real = threading.Barrier(2), [], os.link
    stores = [BackupSet(str(tmp_path / "db")) for _ in range(2)]

    def link(source, target):
        if target.endswith(".md5"):
            meet.wait(10)
        real(source, target)

    monkeypatch.setattr(os, "link", link)

    def run(backup_set, volume):
        try:
            results.append((chains.write_version(backup_set, volume, BLOCK), volume))
        except (SetLocked, ForeignFiles) as error:
            results.append((error, volume))

    threads = [threading.Thread(target=run, args=pair) for pair in zip(stores, (OURS, THEIRS), strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {type(result) for result, _ in results} == {int, ForeignFiles}
    (winner,) = [volume for result, volume in results if result == 1]
    assert restored(tmp_path / "db", 1, tmp_path / "out") == winner
    assert verify.verify(stores[0]).exit_code == 0


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP], ids=lambda n: errno.errorcode[n])
def test_a_file_system_without_links(number, tmp_path, monkeypatch):
    """As vfat and some of a network: names are given by rename, and still not over what somebody has made."""

    def link(source, target):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", link)
    write(tmp_path, FIRST)
    assert write(tmp_path, OURS) == 2
    assert restored(tmp_path / "db", 2, tmp_path / "out") == OURS
    before = files_of(tmp_path)

    part = BackupSet(str(tmp_path / "db")).part(2, ".gz")
    part.close()
    with pytest.raises(ForeignFiles, match=r"db\.2\.gz was made by another run"):
        part.publish()
    part.discard()
    assert files_of(tmp_path) == before
