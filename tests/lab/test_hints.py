"""Hints of real thin pools: what is restored is the volume, whatever happens to it, its pool and the run."""

import pytest

from . import runs
from .agents import md5, snapshots
from .runs import manifest, run

pytestmark = pytest.mark.lab


def bases(guest):
    return guest.run("lvs --noheadings -o vg_name,lv_name @blockdiff.base | sed 's/^ *//;s/ /\\//'").split()


def test_first(guest, tmp_path):
    guest.run("lvcreate -y -L 512M -T vg0/pool && lvcreate -y -V 256M -T vg0/pool -n thin")
    path = "/dev/vg0/thin"
    runs.fill(guest, path, 20)
    name = tmp_path / "db"

    def backup(*more, code=0):
        done = run(guest, "blockdiff-backup", "--hints", *more, name, f"root@db00:{path}", code=code)
        print(done.stderr)
        return done.stderr

    backup()
    print(manifest(name, 1)["hint"], manifest(name,1)["bytes"])
    print(guest.run("lvs -a -o +lv_tags,thin_id"))
    runs.fill(guest, path, 1, at=5)
    runs.fill(guest, path, 1, at=100)
    backup()
    print(manifest(name, 2).get("hint"), manifest(name,2)["bytes"])
    print(guest.run("lvs -a -o +lv_tags,thin_id; dmsetup status"))
    assert runs.restored(name, tmp_path / "out") == md5(guest, path)
    assert snapshots(guest) == [] and len(bases(guest)) == 1

