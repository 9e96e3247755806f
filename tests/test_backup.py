"""A backup: what can refuse refuses before anything is written; each source's result is its own."""

import os

import pytest
from engine import local_agent, restored
from hostile import HONEST, Played, put_together

from blockdiff import backup
from blockdiff.errors import AgentDied, LockNotGranted, NoSuchVolume, SnapshotRefused
from blockdiff.ingest.job import Job
from blockdiff.sets import catalogue
from blockdiff.sets.backupset import BackupSet
from blockdiff.source.wanted import NONE, Wanted

BLOCK = 4096


@pytest.fixture
def job(tmp_path):
    """Return a function that makes a job of a set and a volume of its name."""

    def job(name, size=3 * BLOCK + 1, connect=None, **wanted):
        path = tmp_path / f"{name}.vol"
        if size is not None:
            path.write_bytes(os.urandom(size))
        wanted = Wanted(str(path), **{"block_size": BLOCK, "snapshot": NONE, **wanted})
        return Job(BackupSet(str(tmp_path / name)), wanted, connect or local_agent(), label=name)

    return job


def written(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix not in (".vol", ".lock"))


def test_a_version_and_its_manifest_say_what_was_done(job, tmp_path):
    one = job("a")
    progress = []
    full = backup.run(Job(one.backup_set, one.wanted, one.connect, lambda done, size: progress.append((done, size))), cores=2)
    assert (full.version, full.kind, full.blocks, full.changed, full.warnings) == (1, "full", 4, 4, [])
    assert sum(done for done, _ in progress) == full.size == 3 * BLOCK + 1
    with open(one.wanted.path, "r+b") as file:
        file.write(bytes(BLOCK))
    more = backup.run(one, cores=2)
    assert (more.version, more.kind, more.changed, more.zero) == (2, "incremental", 1, 1)
    value = one.backup_set.read_manifest(2).value
    assert value["blocks"] == {"total": 4, "changed": 1, "zero": 1}
    assert value["bytes"]["stored"] == more.stored == os.path.getsize(tmp_path / "a.2.gz")
    assert value["source"] == {
        "host": "localhost", "path": one.wanted.path, "kind": "file", "size": 3 * BLOCK + 1, "lv_uuid": None,
    }  # fmt: skip
    assert (value["parent"], value["consistency"], value["quiesce"], value["snapshot"]) == (1, "none", None, None)
    with open(one.wanted.path, "rb") as file:
        assert restored(tmp_path / "a", 2, tmp_path / "out") == file.read()


def test_what_stops_one_source_before_the_snapshots_stops_all_and_bears_its_label(job, tmp_path):
    with pytest.raises(NoSuchVolume) as error:
        backup.run_all([job("a"), job("b", size=None)], cores=2)
    assert error.value.about == "b"
    assert written(tmp_path) == []


def test_what_fails_later_is_the_result_of_its_own_source_only(job, tmp_path):
    stream = put_together(HONEST[1][:3])  # it ends after its first extent
    lost = job("a", size=None, connect=lambda: Played(stream, status=9), block_size=100)
    first, second = backup.run_all([lost, job("b")], cores=2)
    assert isinstance(first, AgentDied) and first.about == "a"
    assert second.version == 1
    assert [name for name in written(tmp_path) if name.startswith("a.")] == []
    assert BackupSet(str(tmp_path / "b")).newest() == 1


def test_sets_of_one_moment_say_so(job, tmp_path):
    one, two = job("a"), job("b")
    backup.run_all([one, two], cores=2)
    moments = [each.backup_set.read_manifest(1).value["moment"] for each in (one, two)]
    assert moments[0] == moments[1] and len(bytes.fromhex(moments[0])) == 8
    assert catalogue.describe(one.backup_set).versions[0].moment == moments[0]
    backup.run_all([one, two], cores=2)
    assert one.backup_set.read_manifest(2).value["moment"] not in moments
    backup.run(one, cores=2)
    assert "moment" not in one.backup_set.read_manifest(3).value


def test_a_lock_is_not_taken_for_a_volume_that_is_read_live(job, tmp_path):
    with pytest.raises(SnapshotRefused, match="a lock is asked for"):
        backup.run(job("a"), cores=2, quiesce=lambda: pytest.fail("locked"))
    assert written(tmp_path) == []


def test_a_set_is_locked_before_its_source_is_connected_to_and_free_afterwards(job):
    found = []

    def connect():
        with pytest.raises(Exception, match="locked"), BackupSet(one.backup_set.name).locked(0):
            pass
        found.append(True)
        raise LockNotGranted("enough")

    one = job("a", connect=connect)
    with pytest.raises(LockNotGranted):
        backup.run(one, cores=2)
    with one.backup_set.locked():
        assert found == [True]
