"""Whole backups over ssh of a host with LVM: snapshot, read, publish, nothing left."""

import json
import os
import pathlib
import subprocess

import pytest

pytestmark = pytest.mark.lab
BIN = pathlib.Path(__file__).resolve().parents[2] / "bin"


def program(guest, name, *args, check=True, **environment):
    """Run one of our programs beside the guest; returns the finished process."""
    done = subprocess.run(
        [*guest.netns, BIN / name, *args],
        env=dict(os.environ, BLOCKDIFF_SSH_CONFIG="", **environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        timeout=300,
    )
    assert not check or done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    return done


def snapshots(guest):
    return guest.run("lvs --noheadings -o lv_name --select 'lv_attr=~^[sSV] && lv_tags!=\"\"' -a").split()


def test_a_thick_volume(guest, tmp_path):
    guest.run("lvcreate -y -Wn -L 64M -n data vg0 && mkfs.ext4 -q /dev/vg0/data")
    done = program(guest, "blockdiff-backup", "--json", tmp_path / "db", "root@db00:/dev/vg0/data")
    print(done.stderr)
    assert json.loads(done.stdout)["consistency"] == "crash"
    assert snapshots(guest) == []
    guest.run("mount /dev/vg0/data /mnt && echo hello > /mnt/hello && sync")
    done = program(guest, "blockdiff-backup", tmp_path / "db", "root@db00:/dev/vg0/data")
    program(guest, "blockdiff-merge", tmp_path / "db", tmp_path / "out")
    assert subprocess.run(["e2fsck", "-fn", tmp_path / "out"]).returncode in (0, 4)
    print((tmp_path / "db.2.json").read_text())
    guest.run("umount /mnt")
