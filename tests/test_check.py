"""What is found of sets without reading anything large: ages, proofs, space, runs that died or are active."""

import builtins
import contextlib
import datetime
import fcntl
import os
import subprocess

import chains
import pytest
from devices import mounted
from launched import needs

from blockdiff import check, verify
from blockdiff.sets import verified
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.health import Limits, State

NOW = datetime.datetime(2026, 1, 3, 6, 0, tzinfo=datetime.UTC)  # version 2 of chains was begun five hours before
RUN = "r0123456789abcdef"


def a_set(folder, name="vol", versions=2):
    backup_set = chains.new_set(folder, name)
    for _ in range(versions):
        chains.write_version(backup_set, os.urandom(1000), 100)
    return backup_set


def checked(*operands, known=None, damage=None, limits=None, room=None, now=NOW, **more):
    notes = verified.Notes(known or {}, damage or {})
    return check.check(map(str, operands), lambda name: notes, limits or Limits(), room, now, **more)


def texts(found):
    return [(finding.state, finding.text) for finding in found.findings]


def test_a_set_that_is_well(tmp_path):
    backup_set = a_set(tmp_path)
    (found,) = checked(backup_set.name)
    assert (found.state, found.findings, found.newest, found.points, found.proved) == (State.OK, [], 2, 2, 0)
    assert found.age == pytest.approx(5 * 3600, abs=300) and found.oldest_proof is None and not found.running


def test_the_worst_comes_first_and_one_that_never_began_is_critical(tmp_path):
    good, bad = a_set(tmp_path, "good"), a_set(tmp_path, "bad")
    os.unlink(bad.path(1, ".gz"))
    found = checked(tmp_path, tmp_path / "none")
    assert [(each.name, each.state) for each in found] == [
        (bad.name, State.CRITICAL), (str(tmp_path / "none"), State.CRITICAL), (good.name, State.OK),
    ]  # fmt: skip


def test_age(tmp_path):
    name = a_set(tmp_path).name
    for days, state in ((1, State.WARNING), (3, State.CRITICAL)):
        (found,) = checked(name, now=NOW + datetime.timedelta(days=days))
        assert found.state is state and " old (limit " in found.findings[0].text


def test_a_proof_counts_while_the_diff_file_is_the_same(tmp_path):
    backup_set = a_set(tmp_path)
    late = NOW + datetime.timedelta(days=40)
    limits = Limits(age=(1e9, 1e9), still=None)
    proofs = {n: verified.Proof(p.stamp, int(late.timestamp()) - n, p.size, p.mtime_ns, p.ino)
              for n, p in verify.verify(backup_set).proofs.items()}  # fmt: skip

    (found,) = checked(backup_set.name, known=proofs, limits=limits, now=late)
    assert (found.state, found.proved, found.oldest_proof) == (State.OK, 2, late.timestamp() - 2)
    os.utime(backup_set.path(2, ".gz"))
    (found,) = checked(backup_set.name, known=proofs, limits=limits, now=late)
    assert (found.proved, found.oldest_proof) == (1, None)
    assert [text for _, text in texts(found)] == ["version 2 was never proved in 40 d 5 h (limit 35 d)"]


def test_a_version_that_was_found_damaged_is_no_restore_point(tmp_path):
    backup_set = a_set(tmp_path, versions=3)
    (found,) = checked(backup_set.name, damage={2: verified.Damage(int(NOW.timestamp()), "bytes 0 to 99")})
    assert (found.state, found.points) == (State.CRITICAL, 1)  # version 3 needs it
    assert texts(found)[0] == (State.CRITICAL, "version 2 was found damaged 0 min ago: bytes 0 to 99")


def test_a_dead_run_is_told_from_one_that_is_active(tmp_path):
    backup_set = a_set(tmp_path)
    part = f"{backup_set.path(3, '.gz')}.{RUN}.part"
    open(part, "x").close()
    (found,) = checked(backup_set.name)
    assert texts(found) == [
        (State.WARNING, f"a run died and left {os.path.basename(part)}; the next backup removes it")
    ]
    with BackupSet(backup_set.name).locked():
        (found,) = checked(backup_set.name)
        assert found.running and found.state is State.OK
    with open(part) as file:
        fcntl.flock(file, fcntl.LOCK_SH)  # of a rewrite, which does not hold the set's lock
        (found,) = checked(backup_set.name)
        assert not found.running and found.state is State.OK
    (found,) = checked(backup_set.name, locks="/nonexistent")
    assert found.state is State.WARNING


def test_space(tmp_path):
    backup_set = a_set(tmp_path)
    (found,) = checked(backup_set.name, room=86400.0)
    assert found.state is State.OK and found.a_day > 0
    assert check.room_s([found]) == pytest.approx(found.free / found.a_day * 86400)
    (found,) = checked(backup_set.name, room=check.room_s([found]) * 2)
    assert found.findings[0].text.startswith("space for ")


def test_no_diff_file_and_no_digest_is_read(tmp_path, monkeypatch):
    """Of digest files the header only, of which the number of blocks follows with the size."""
    backup_set = a_set(tmp_path)
    proofs = verify.verify(backup_set).proofs
    opened, read, listed = [], [], []
    real_open, real_os, real_pread, real_list = builtins.open, os.open, os.pread, os.listdir
    monkeypatch.setattr(builtins, "open", lambda path, *a, **k: opened.append(path) or real_open(path, *a, **k))
    monkeypatch.setattr(os, "open", lambda path, *a, **k: opened.append(path) or real_os(path, *a, **k))
    monkeypatch.setattr(os, "listdir", lambda path: listed.append(path) or real_list(path))

    def pread(fd, size, at):
        if os.readlink(f"/proc/self/fd/{fd}").endswith(".md5"):
            read.append(size)
        return real_pread(fd, size, at)

    monkeypatch.setattr(os, "pread", pread)

    checked(tmp_path, known=proofs, room=1.0)

    suffixes = {os.path.splitext(str(path))[1] for path in opened}
    assert suffixes <= {".json", ".md5", ".ver", ".drills", ""} and {".json", ".md5"} <= suffixes
    assert not [path for path in opened if str(path).endswith((".gz", ".idx", ".xxh128"))]
    assert read and max(read) == 4
    assert listed == [str(tmp_path)]  # once for all sets


def test_what_began_after_the_first_set_was_looked_at_is_no_dead_run(tmp_path, monkeypatch):
    """Locks are read after the files of a set: a backup that began meanwhile, in a long list, is running."""
    first, second = a_set(tmp_path, "a"), a_set(tmp_path, "b")

    with contextlib.ExitStack() as running:

        def noted(name):
            if name == first.name:
                running.enter_context(BackupSet(second.name).locked())
                open(f"{second.path(3, '.gz')}.{RUN}.part", "x").close()
            return verified.Notes()

        limits = Limits()
        found = {each.name: each for each in check.check([first.name, second.name], noted, limits, None, NOW)}
    assert found[second.name].running and found[second.name].state is State.OK


def test_what_a_dead_first_backup_left_is_told(tmp_path):
    open(tmp_path / f"none.1.gz.{RUN}.part", "x").close()
    (found,) = checked(tmp_path / "none")
    assert [finding.state for finding in found.findings] == [State.CRITICAL, State.WARNING]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_backup_that_runs_is_told_on_btrfs(tmp_path):
    """Whose files have another device's number than the kernel's list of locks has."""
    needs("mkfs.btrfs")
    image = tmp_path / "image"
    with open(image, "wb") as file:
        file.truncate(200 << 20)
    subprocess.run(["mkfs.btrfs", "-q", image], check=True, stdout=subprocess.DEVNULL)
    with mounted("btrfs", tmp_path / "mount", "-o", "loop", source=str(image)) as folder:
        backup_set = a_set(folder)
        open(f"{backup_set.path(3, '.gz')}.{RUN}.part", "x").close()
        (found,) = checked(backup_set.name)
        assert not found.running and found.state is State.WARNING
        with BackupSet(backup_set.name).locked():
            (found,) = checked(backup_set.name)
            assert found.running and found.state is State.OK
