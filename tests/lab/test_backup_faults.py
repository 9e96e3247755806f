"""Backups of logical volumes that are refused or fail: the reason, the exit code, nothing published."""

import pytest

from . import runs
from .agents import eventually, md5, snapshots, thin
from .runs import SSH, fill, finished, go, held, manifest, reading, restored, run, unpublished, volume

pytestmark = pytest.mark.lab


# -- refused before anything is read


def refused(guest, tmp_path, path, *words, **environment):
    done = run(guest, "blockdiff-backup", tmp_path / "no", f"root@db00:{path}", code=31, **environment)
    for word in words:
        assert word in done.stderr
    assert unpublished(tmp_path / "no")
    assert runs.bare(guest)


def test_what_cannot_be_snapshotted_is_31_with_the_reason(guest, tmp_path):
    path = volume(guest)
    guest.run("lvcreate -y -s -L 4M -n stick vg0/lv0; lvcreate -y -L 16M -T vg0/pool")
    refused(guest, tmp_path, "/dev/vg0/stick", "/dev/vg0/stick", "it is itself a snapshot, of lv0")
    refused(guest, tmp_path, "/dev/mapper/vg0-pool", "thin pool")
    guest.run(f"sleep 100 < {path} > /dev/null 2>&1 & lvconvert -y --merge vg0/stick")
    refused(guest, tmp_path, path, "a snapshot is being merged")


def test_a_thin_pool_that_is_nearly_full_is_31(guest, tmp_path):
    fill(guest, thin(guest, pool_size="16M", size="16M"), 15)
    refused(guest, tmp_path, "/dev/vg0/thin", "vg0/pool", "93.8 % full (data)", "the limit is 90 %")


def test_too_little_room_is_31_and_names_what_is_missing(guest, tmp_path):
    path = volume(guest, size="32M")
    guest.run("lvcreate -y -Zn -Wn -l 100%FREE -n rest vg0; lvreduce -y -l -2 vg0/rest")
    refused(guest, tmp_path, path, "2 free extents of 4 MiB", "3 are missing (12 MiB)", SNAPSHOT_SIZE="20M")


def test_the_command_for_logical_volumes_takes_nothing_else(guest, tmp_path):
    done = run(guest, "blockdiff-backup", tmp_path / "no", "ssh-lvm-dump", "root@db00", "/dev/ubdd", code=30)
    assert "not a logical volume" in done.stderr
    assert unpublished(tmp_path / "no")


# -- while it is read


def test_an_overflow_is_32(guest, tmp_path):
    path = volume(guest, size="12M")
    guest.run("lvcreate -y -Zn -Wn -l 100%FREE -n rest vg0; lvreduce -y -l -1 vg0/rest")
    with held(guest, tmp_path / "no", f"root@db00:{path}") as process:
        fill(guest, path, 8, at=4)
        go(guest)
        said = finished(process, 32)

    assert "overflowed" in said
    assert "0 extents are free in vg0" in said
    assert unpublished(tmp_path / "no")
    assert runs.bare(guest)


def test_an_overflow_after_the_last_read_is_32_as_well(guest, tmp_path):
    """Every byte was read while the snapshot was whole, but that nobody can tell afterwards."""
    path = volume(guest, size="12M")
    guest.run("lvcreate -y -Zn -Wn -l 100%FREE -n rest vg0; lvreduce -y -l -1 vg0/rest")
    with reading(guest, "--jobs", "8", tmp_path / "no", f"root@db00:{path}") as process:
        reader, _ = runs.owners(guest)
        eventually(lambda: int(guest.run(f"sed -n 's/rchar: //p' /proc/{reader}/io")) > 12 * 2**20)
        fill(guest, path, 8)
        assert process.poll() is None
        finished(process, 32)
    assert unpublished(tmp_path / "no")


def test_a_snapshot_that_was_extended_tells_so(guest, tmp_path):
    path = volume(guest, size="16M")
    name = tmp_path / "set"
    with held(guest, "--snapshot-size", "4M", name, f"root@db00:{path}") as process:
        size = "lvs --noheadings --units m --nosuffix -o lv_size @blockdiff"
        fill(guest, path, 3)  # near full, and the supervisor has its time
        eventually(lambda: float(guest.run(size)) > 4)
        fill(guest, path, 1, at=3)  # more than it could have held
        go(guest)
        said = finished(process, 0)
    told = manifest(name)["snapshot"]

    assert told["extended"] >= 1
    assert told["size"] > 4 * 2**20
    assert f"extended {told['name']} from 4 MiB" in said
    assert runs.bare(guest)


def test_a_read_error_under_the_snapshot_is_33(guest, tmp_path):
    path = guest.bad_volume()
    done = run(guest, "blockdiff-backup", "--snapshot-size", "8M", tmp_path / "no", f"root@db00:{path}", code=33)

    assert "Input/output error at byte" in done.stderr
    assert unpublished(tmp_path / "no")
    assert runs.bare(guest)


# -- what remains is said


def test_a_busy_snapshot_is_3_with_the_version_published(guest, tmp_path):
    path = volume(guest)
    name = tmp_path / "set"
    with held(guest, *SSH, name, f"root@db00:{path}") as process:
        (snapshot,) = snapshots(guest)
        device = guest.run(f"lvs --noheadings -o lv_dm_path {snapshot}").strip()
        guest.run(f"sleep 1000 < {device} > /dev/null 2>&1 & echo $! > /tmp/holder")
        pid = guest.run("cat /tmp/holder").strip()
        go(guest)
        said = finished(process, 3)

    assert f"the snapshot {snapshot} could not be removed: process {pid} (sleep)" in said
    assert restored(name, tmp_path / "out") == md5(guest, path)
    guest.run(f"kill {pid}")
    eventually(lambda: runs.bare(guest))  # it was not given up


@pytest.mark.long
def test_a_busy_snapshot_is_said_where_the_run_fails_as_well(guest, tmp_path):
    path = guest.bad_volume()
    args = ("--snapshot-size", "8M", tmp_path / "no", f"root@db00:{path}")
    with held(guest, *args) as process:
        device = guest.run("lvs --noheadings -o lv_dm_path @blockdiff").strip()
        guest.run(f"sleep 1000 < {device} > /dev/null 2>&1 & echo $! > /tmp/holder")
        go(guest)
        said = finished(process, 33)
    guest.run("kill $(cat /tmp/holder)")

    assert "could not be removed: process" in said


def test_snapshots_of_others_stay_and_are_told_of(guest, tmp_path):
    path = volume(guest)
    for name, tags in {"mine": "", "lvm_dump": "", "half": "--addtag blockdiff"}.items():
        guest.run(f"lvcreate -y -s -L 4M -n {name} {tags} {path}")
    stood = guest.run("lvs --noheadings -o lv_uuid,lv_name vg0")
    said = run(guest, "blockdiff-backup", tmp_path / "set", f"root@db00:{path}", code=3).stderr
    streams = ("--output", tmp_path / "dump", "--digests-out", tmp_path / "new")
    dumped = run(guest, "ssh-lvm-dump", *streams, "root@db00", path, code=3).stderr

    for text in (said, dumped):
        assert "warning: db00: vg0/lvm_dump looks like a snapshot that the blockdiff of 2010 left behind" in text
        assert "warning: db00: vg0/half carries our tag but not all of them" in text
        assert "vg0/mine" not in text
    assert guest.run("lvs --noheadings -o lv_uuid,lv_name vg0") == stood
    assert manifest(tmp_path / "set")["version"] == 1
