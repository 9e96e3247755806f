"""The source of a set: its own volume or another one, in use or not, and dry runs."""

import json

import pytest

from . import runs
from .agents import md5, thin
from .runs import SSH, manifest, restored, run, volume

pytestmark = pytest.mark.lab

MIB = 2**20
CHANGED, WARNED, REFUSED = 37, 3, 31
# says that it was asked, if it was
LOCK = "sh -c 'touch {}; exec \"$@\"' lock"


def test_a_logical_volume_is_its_uuid(guest, tmp_path):
    """Other paths and other names lead to the same one; one made anew is another, told before anything is locked."""
    path = volume(guest)
    name, asked = tmp_path / "set", tmp_path / "asked"
    run(guest, "blockdiff-backup", name, f"root@db00:{path}")
    run(guest, "blockdiff-backup", name, "root@db00:/dev/mapper/vg0-lv0")
    guest.run("lvrename vg0 lv0 other")
    run(guest, "blockdiff-backup", *SSH, name, f"root@{guest.address}:/dev/vg0/other")  # another name of the host, too
    assert [manifest(name, n)["kind"] for n in (1, 2, 3)] == ["full", "incremental", "incremental"]

    guest.run("lvremove -y vg0/other")
    volume(guest, "other")
    line = (name, f"root@{guest.address}:/dev/vg0/other")
    done = run(guest, "blockdiff-backup", "--lock", LOCK.format(asked), *line, code=CHANGED)
    assert f"UUID {manifest(name, 3)['source']['lv_uuid']}" in done.stderr
    assert not asked.exists()
    assert (tmp_path / "set.ver").read_text() == "3\n"
    # as it lives, nobody asks for its UUID; then host and path decide
    run(guest, "blockdiff-backup", "--no-snapshot", name, f"root@db00:{path}", code=CHANGED)
    run(guest, "blockdiff-backup", "--new-source", "--lock", LOCK.format(asked), *line)
    assert asked.exists()
    assert manifest(name, 4)["kind"] == "incremental"
    assert restored(name, tmp_path / "out") == md5(guest, "/dev/vg0/other")
    assert runs.bare(guest)


@pytest.mark.parametrize("kind", ["thick", "thin"])
def test_a_dry_run_makes_nothing(guest, tmp_path, kind):
    path = volume(guest) if kind == "thick" else thin(guest, size="8M")
    guest.run("lvcreate -y -s -L 4M -n left --addtag blockdiff vg0/lv0" if kind == "thick" else "true")
    before = guest.run("lvs -a -o lv_name,lv_tags; ls /etc/lvm/archive /etc/lvm/backup 2>/dev/null")
    name, asked = tmp_path / "set", tmp_path / "asked"
    line = ("--json", "--lock", LOCK.format(asked), "--snapshot-size", "4M", name, f"root@db00:{path}")
    told = json.loads(run(guest, "blockdiff-backup", "--dry-run", *line).stdout)

    assert guest.run("lvs -a -o lv_name,lv_tags; ls /etc/lvm/archive /etc/lvm/backup 2>/dev/null") == before
    assert not asked.exists()
    assert not list(tmp_path.iterdir())
    uuid = guest.run(f"lvs --noheadings -o lv_uuid {path}").strip()
    assert told["source"] == {"host": "db00", "path": path, "kind": f"lvm-{kind}", "size": 8 * MIB, "lv_uuid": uuid}
    assert told["snapshot"] == {"size": 4 * MIB if kind == "thick" else None}
    assert (told["lock"], told["kind"], told["version"], told["parent"]) == (True, "full", 1, None)
    assert runs.bare(guest) or kind == "thick"


def test_a_dry_run_says_why_a_run_would_fail(guest, tmp_path):
    path = volume(guest)
    line = ("--dry-run", tmp_path / "set", "root@db00:/dev/ubdd")
    done = run(guest, "blockdiff-backup", "--lock", LOCK.format(tmp_path / "asked"), *line, code=REFUSED)
    assert "not a logical volume" in done.stderr
    guest.run("lvcreate -y -l 100%FREE -n rest vg0")
    done = run(guest, "blockdiff-backup", "--dry-run", tmp_path / "set", f"root@db00:{path}", code=REFUSED)
    assert "free extents" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_mounted_device_that_is_no_logical_volume(guest, tmp_path):
    name = tmp_path / "set"
    guest.run("mkfs.ext4 -q /dev/ubdd 16M && mount /dev/ubdd /mnt")
    done = run(guest, "blockdiff-backup", "--json", name, "root@db00:/dev/ubdd", code=WARNED)
    (line,) = json.loads(done.stdout)["warnings"]
    assert line.startswith("db00:/dev/ubdd is read while it may be written to: it is mounted on /mnt (hint: ")
    assert f"blockdiff: warning: {line}" in done.stderr
    run(guest, "blockdiff-backup", "--no-snapshot", name, "root@db00:/dev/ubdd")
    done = run(guest, "blockdiff-backup", name, "ssh_blockdiff_dump", "root@db00", "/dev/ubdd")
    assert "it is mounted on /mnt" in done.stderr
    guest.run("mount -o remount,ro /mnt")
    run(guest, "blockdiff-backup", name, "root@db00:/dev/ubdd")
    guest.run("umount /mnt")


def test_what_lies_on_a_device_counts(guest):
    """A disk of LVM's is used as soon as one of its volumes is."""
    path = volume(guest)
    of = (
        f"cd {guest.checkout} && python3 -B -c 'import os, sys; from agent import users;"
        " print(users.of(os.fsencode(sys.argv[1])))' "
    )
    assert guest.run(f"{of} /dev/ubdb") == guest.run(f"{of} {path}") == "None\n"
    guest.run(f"mkfs.ext4 -q {path} && mount {path} /mnt")
    assert guest.run(f"{of} {path}") == "it is mounted on /mnt\n"
    assert guest.run(f"{of} /dev/ubdb") == "vg0-lv0 on it is mounted on /mnt\n"
    guest.run("umount /mnt")
