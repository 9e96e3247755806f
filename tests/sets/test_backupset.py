"""A version exists only if it is whole, and nothing that anybody could need is ever deleted.

Crash points are enumerated: a run is made in a child process whose n-th write, sync,
rename or removal in the backup folder dies, or fails, for every n that there is.
"""

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys

import chains
import pytest
from engine import back_up, files_of, local_agent, restored

from blockdiff import backup, codecs, verify
from blockdiff.errors import ForeignFiles, NoRoom, SetLocked, StoreFailed
from blockdiff.ingest.job import Job
from blockdiff.place import folder
from blockdiff.sets import backupset
from blockdiff.sets.backupset import BackupSet
from blockdiff.source.wanted import Wanted

VOLUMES = [bytes([65 + n]) * 1000 + bytes(3000) + os.urandom(5000) for n in range(4)]
CALLS = ("write", "fsync", "link", "rename", "unlink", "open")


def child_with_fault(work, n, fault, folder):
    """Run work in a child whose n-th call of CALLS in a folder ends it (fault "kill") or fails with an errno.

    Returns (exit status, whether the n-th call came).
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            count = 0
            for name in CALLS:
                real = getattr(os, name)

                def wrapped(*args, real=real, name=name, **kwargs):
                    nonlocal count
                    if name == "open" and not args[1] & os.O_CREAT:
                        return real(*args, **kwargs)
                    if name in ("write", "fsync") and not os.readlink(f"/proc/self/fd/{args[0]}").startswith(folder):
                        return real(*args, **kwargs)
                    count += 1
                    if count == n:
                        if fault == "kill":
                            real_write(writer, b"!")
                            os.kill(os.getpid(), signal.SIGKILL)
                        real_write(writer, b"!")
                        raise OSError(fault, os.strerror(fault))
                    return real(*args, **kwargs)

                if name == "write":
                    real_write = real
                setattr(os, name, wrapped)
            status = 0
            try:
                work()
            except (NoRoom, StoreFailed, OSError) as error:
                status = getattr(error, "exit_code", 99)
            os._exit(status)
        except BaseException:
            os._exit(98)
    os.close(writer)
    hit = os.read(reader, 1) == b"!"
    os.close(reader)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), hit


def check(folder, newest, scratch):
    """Every published version restores; verify is clean; returns nothing."""
    for number in range(1, newest + 1):
        assert restored(folder / "db", number, scratch) == VOLUMES[number - 1]
    if newest:
        report = verify.verify(BackupSet(str(folder / "db")))
        assert all(v.restores and not v.faults for v in report.versions)


@pytest.mark.parametrize(
    "before, fault",
    [
        pytest.param(0, "kill", id="first-kill"),
        pytest.param(0, errno.EIO, id="first-EIO"),
        pytest.param(0, errno.ENOSPC, id="first-ENOSPC", marks=pytest.mark.long),
        pytest.param(1, "kill", id="second-kill"),
        pytest.param(1, errno.ENOSPC, id="second-ENOSPC"),
        pytest.param(1, errno.EIO, id="second-EIO", marks=pytest.mark.long),
    ],
)
def test_a_fault_at_any_write_leaves_the_old_state_or_the_new(before, fault, tmp_path):
    source, scratch, begin = tmp_path / "source", tmp_path / "scratch", tmp_path / "begin"
    begin.mkdir()
    for volume in VOLUMES[:before]:
        source.write_bytes(volume)
        back_up(begin / "db", source, block_size=512)
    n = 0
    while True:
        n += 1
        folder = tmp_path / f"at{n}"
        shutil.copytree(begin, folder)
        old = files_of(folder)
        source.write_bytes(VOLUMES[before])

        def work(to=folder):
            back_up(to / "db", source, block_size=512)

        status, hit = child_with_fault(work, n, fault, str(folder))

        if not hit:
            assert status == 0
            break
        if fault == "kill":
            assert status == -signal.SIGKILL
        ver = folder / "db.ver"
        named = int(ver.read_bytes()) if ver.exists() else 0
        assert named in (before, before + 1)
        assert {name: data for name, data in files_of(folder).items() if name in old and name != "db.ver"} == {
            name: data for name, data in old.items() if name != "db.ver"
        }
        check(folder, named, scratch)
        if fault != "kill" and named == before:
            assert status == {errno.ENOSPC: 13, errno.EIO: 15}[fault], n

        source.write_bytes(VOLUMES[before + 1])
        outcome = back_up(folder / "db", source)
        assert outcome.version in (before + 1, before + 2)
        assert not [p for p in files_of(folder) if p.endswith(".part")]
        assert restored(folder / "db", outcome.version, scratch) == VOLUMES[before + 1]
        for number in range(1, outcome.version):
            assert restored(folder / "db", number, scratch) == VOLUMES[number - 1]
    assert n > 20, "the faults were not where they should have been"


@pytest.fixture
def made(tmp_path):
    """A set of two versions, and a source."""
    source = tmp_path / "source"
    for volume in VOLUMES[:2]:
        source.write_bytes(volume)
        back_up(tmp_path / "db", source, block_size=512)
    return tmp_path


@pytest.mark.parametrize(
    "ver", [None, b"", b"\n", b"2", b"02\n", b"2\n\n", b"two\n", b"2 \n", b"0\n", b"-1\n", b"9\n", b"\xff\n", b"2\r\n"]
)
def test_a_ver_that_is_not_of_its_form_is_no_new_set(ver, made):
    if ver is None:
        (made / "db.ver").unlink()
    else:
        (made / "db.ver").write_bytes(ver)
    before = files_of(made)

    with pytest.raises(ForeignFiles) as caught:
        back_up(made / "db", made / "source")

    assert files_of(made) == before
    assert "db.ver" in str(caught.value) and "hint" in str(caught.value)


def test_the_originals_first_version_without_ver_is_not_touched(tmp_path):
    backup_set = BackupSet(str(tmp_path / "db"))
    chains.write_version(backup_set, VOLUMES[0], 512, codecs.PLAIN, original=True)
    (tmp_path / "db.ver").unlink()
    before = files_of(tmp_path)
    (tmp_path / "source").write_bytes(VOLUMES[1])

    with pytest.raises(ForeignFiles):
        back_up(tmp_path / "db", tmp_path / "source")

    after = files_of(tmp_path)
    assert {name: after[name] for name in before} == before


def test_a_manifest_that_is_all_of_a_first_version_is_in_nobodys_way(tmp_path):
    (tmp_path / "source").write_bytes(VOLUMES[0])
    back_up(tmp_path / "db", tmp_path / "source")
    for name in files_of(tmp_path):
        if name not in ("source", "db.1.json"):
            (tmp_path / name).unlink()

    assert back_up(tmp_path / "db", tmp_path / "source").version == 1
    check(tmp_path, 1, tmp_path / "out")


def test_files_two_above_ver_stop_the_run(made):
    (made / "db.4.gz").write_bytes(b"somebody's")
    before = files_of(made)

    with pytest.raises(ForeignFiles):
        back_up(made / "db", made / "source")

    assert files_of(made) == before


def test_a_whole_version_above_ver_is_adopted(made):
    (made / "db.ver").write_bytes(b"1\n")
    said = []

    outcome = back_up(made / "db", made / "source", note=said.append)

    assert outcome.version == 3
    assert any("adopted" in line for line in said)
    check(made, 2, made / "scratch")


@pytest.mark.parametrize("suffix", [".gz", ".md5", ".xxh128", ".idx"])
def test_a_version_above_ver_that_is_not_whole_is_replaced(suffix, made):
    (made / "db.ver").write_bytes(b"1\n")
    path = made / f"db.2{suffix}"
    path.write_bytes(path.read_bytes()[:-1])
    (made / "source").write_bytes(VOLUMES[1])

    outcome = back_up(made / "db", made / "source", suffix=".zst")

    assert outcome.version == 2
    assert not (made / "db.2.gz").exists()
    check(made, 2, made / "scratch")


@pytest.mark.parametrize(
    "names", [["db.3"], ["db.3.gz", "db.3.md5"], ["db.3.json"], ["db.3.gz", "db.3.json"], ["db.3.gz", "db.3.json.part"]]
)
def test_files_above_ver_that_no_manifest_of_ours_names_are_never_touched(names, made):
    """A restored image, what a run of the original left that died, a manifest of another version."""
    for name in names:
        (made / name).write_bytes(b"somebody's" if "json" not in name else (made / "db.2.json").read_bytes())
    before = files_of(made)

    with pytest.raises(ForeignFiles) as caught:
        back_up(made / "db", made / "source")

    assert files_of(made) == before
    finals = [str(made / name) for name in names if not name.endswith(".part")]
    assert str(caught.value).startswith(f"{' and '.join(finals)}: above the newest version")
    assert f"rm -- {' '.join(finals)}" in caught.value.hint
    subprocess.run(["sh", "-ec", caught.value.hint.partition("with: ")[2]], check=True)
    assert back_up(made / "db", made / "source").version == 3


def test_a_file_beside_a_torn_version_of_ours_is_never_touched(made):
    (made / "db.ver").write_bytes(b"1\n")
    os.truncate(made / "db.2.gz", 5)
    (made / "db.2").write_bytes(b"somebody's")
    before = files_of(made)

    with pytest.raises(ForeignFiles, match="above the newest version") as caught:
        back_up(made / "db", made / "source")

    assert files_of(made) == before and f"rm -- {made}/db.2)" in str(caught.value)


def test_files_that_come_during_a_run_are_not_replaced(made):
    """The original knows no lock."""

    def tell(*words):
        (made / "db.3.gz").write_bytes(b"the original's")

    (made / "source").write_bytes(VOLUMES[2])
    with pytest.raises(ForeignFiles, match=r"db\.3\.gz appeared while version 3 was being made"):
        wanted = Wanted(path=str(made / "source"))
        backup.run(Job(BackupSet(str(made / "db")), wanted, local_agent(), progress=tell), cores=2)

    assert (made / "db.3.gz").read_bytes() == b"the original's"
    assert (made / "db.ver").read_bytes() == b"2\n"
    assert not [name for name in files_of(made) if name.startswith("db.3.") and name != "db.3.gz"]


def test_nothing_of_a_set_with_a_longer_name_is_touched(made):
    others = dict.fromkeys(("db.11.1.gz", "db.2.1.md5", "db.3.2.gz.part", "db.3x", "db.03.gz", "db.3.gz.bak", "db2.3.gz", "db.ver.1", "db.3.tar.gz", "db.x.part", "db.lock.part", "db.3.md5.1.part", "db.-3.gz", "db.٣.gz"), b"of another set")  # fmt: skip
    for name, data in others.items():
        (made / name).write_bytes(data)
    (made / "source").write_bytes(VOLUMES[2])

    assert back_up(made / "db", made / "source").version == 3

    assert {name: data for name, data in files_of(made).items() if name in others} == others
    check(made, 3, made / "scratch")


def test_a_second_run_ends_after_a_while_and_touches_nothing(made, monkeypatch):
    monkeypatch.setattr(backupset, "_LOCK_PATIENCE_S", 0.2)
    backup_set = BackupSet(str(made / "db"))
    with backup_set.locked():
        before = files_of(made)
        with pytest.raises(SetLocked) as caught:
            back_up(made / "db", made / "source")
        assert caught.value.exit_code == 12
        assert files_of(made) == before


def test_a_second_run_waits_for_one_that_has_the_lock_for_a_moment(made, monkeypatch):
    backup_set = BackupSet(str(made / "db"))
    tried, real = [], folder._flock

    def flock(fd):
        tried.append(real(fd))
        if len(tried) == 3:
            first.close()
        return tried[-1]

    with contextlib.ExitStack() as first:
        first.enter_context(backup_set.locked())
        monkeypatch.setattr(folder, "_flock", flock)
        assert back_up(made / "db", made / "source").version == 3
    assert tried[:4] == [False, False, False, True]


def test_the_lock_ends_with_the_process_that_held_it(made):
    code = f"""
import sys; sys.path[:0] = {sys.path!r}
from blockdiff.place import folder
from blockdiff.sets import backupset
from blockdiff.sets.backupset import BackupSet
import os, signal
with BackupSet({str(made / "db")!r}).locked():
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    assert back_up(made / "db", made / "source").version == 3


@pytest.mark.parametrize("suffix", [".md5", ".json", ".gz"])
@pytest.mark.parametrize("cut", [True, False])
def test_a_damaged_parent_is_never_built_upon(suffix, cut, made):
    path = made / f"db.2{suffix}"
    data = bytearray(path.read_bytes())
    if cut or suffix == ".gz":  # what is inside the diff file is verify's to find
        del data[-1]
    else:
        data[len(data) // 2] ^= 1
    path.write_bytes(data)
    (made / "source").write_bytes(VOLUMES[2])

    outcome = back_up(made / "db", made / "source")

    assert outcome.version == 3
    if suffix == ".md5" and not cut:
        # an intact set of the original's could look the same: then MD5 decides, block by block
        assert outcome.exit_code == 3
    else:
        assert (outcome.kind, outcome.exit_code) == ("full", 3)
    assert restored(made / "db", 3, made / "scratch") == VOLUMES[2]


def test_without_auto_full_a_damaged_parent_stops_the_run(made):
    (made / "db.2.md5").write_bytes(b"\0\2\0\0short")
    before = files_of(made)

    with pytest.raises(Exception) as caught:
        back_up(made / "db", made / "source", auto_full=False)

    assert caught.value.exit_code == 51
    assert files_of(made) == before


def test_a_missing_link_makes_a_full(made):
    (made / "source").write_bytes(VOLUMES[2])
    back_up(made / "db", made / "source")
    (made / "db.2.gz").unlink()
    (made / "source").write_bytes(VOLUMES[3])

    outcome = back_up(made / "db", made / "source")

    assert (outcome.version, outcome.kind, outcome.exit_code) == (4, "full", 3)
    assert restored(made / "db", 4, made / "scratch") == VOLUMES[3]


def test_files_are_for_the_owner_only(made):
    modes = {p.name: p.stat().st_mode & 0o777 for p in made.iterdir() if p.name.startswith("db")}
    assert set(modes.values()) == {0o600}


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
def test_a_full_file_system_is_named_and_loses_nothing(made):
    small = made / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", small], check=True)
    try:
        (made / "source").write_bytes(VOLUMES[0])
        back_up(small / "db", made / "source", block_size=512)
        before = files_of(small)
        (made / "source").write_bytes(os.urandom(1_000_000))

        with pytest.raises(NoRoom) as caught:
            back_up(small / "db", made / "source")

        assert caught.value.exit_code == 13
        assert files_of(small) == before
        assert restored(small / "db", 1, made / "scratch") == VOLUMES[0]
    finally:
        subprocess.run(["umount", small], check=True)
