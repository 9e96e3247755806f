"""Whole backups of a host with LVM: what is stored is the volume as it was at one moment."""

import gzip
import json
import os
import shlex
import struct
import subprocess

import pytest

from . import runs
from .agents import md5, snapshots, thin
from .runs import SSH, fill, finished, go, held, manifest, restored, run, volume

pytestmark = pytest.mark.lab

MIB = 2**20


# -- the original's lines


def test_the_original_lines_mean_what_they_meant(guest, tmp_path):
    path = volume(guest)
    name, plain = tmp_path / "db00-lv0", tmp_path / "plain"
    line = (name, "ssh_lvm_dump", "-z", "root@db00", path)
    run(guest, "blockdiff_backup", *line, SNAPSHOT_SIZE="4M")
    fill(guest, path, 1, at=3)
    run(guest, "blockdiff_backup", *line, SNAPSHOT_SIZE="4M")

    assert [manifest(name, n)["kind"] for n in (1, 2)] == ["full", "incremental"]
    assert [manifest(name, n)["snapshot"]["size"] for n in (1, 2)] == [4 * MIB, 4 * MIB]
    assert manifest(name, 2)["blocks"] == {"total": 8, "changed": 1, "zero": 0}
    payload = gzip.decompress((tmp_path / "db00-lv0.2.gz").read_bytes())
    assert struct.unpack("<IQ", payload[:12]) == (MIB, 3 * MIB)  # 1 MiB blocks, as ssh_lvm_dump had them
    assert restored(name, plain) == md5(guest, path)

    # alone, with the original's descriptors: old digests on 5, new ones on 6
    words = [*guest.netns, str(runs.BIN / "ssh-lvm-dump"), "root@db00", path]
    for redirections in ("> full 6> full.md5", "> more 5< full.md5 6> more.md5"):
        subprocess.run(
            ["sh", "-c", f"{shlex.join(map(str, words))} {redirections}"],
            check=True,
            cwd=tmp_path,
            env=dict(os.environ, BLOCKDIFF_SSH_CONFIG="", SNAPSHOT_SIZE="4M"),
        )
    assert (tmp_path / "full.md5").read_bytes() == (tmp_path / "db00-lv0.2.md5").read_bytes()
    assert (tmp_path / "more.md5").read_bytes() == (tmp_path / "full.md5").read_bytes()
    assert (tmp_path / "more").read_bytes() == struct.pack("<I", MIB)
    assert len((tmp_path / "full").read_bytes()) == 4 + 8 * (8 + MIB)
    plain.unlink()
    with open(tmp_path / "full", "rb") as dump:
        subprocess.run([runs.BIN / "blockdiff_merge", plain], stdin=dump, check=True)
    assert subprocess.run(["md5sum", plain], capture_output=True, text=True).stdout.split()[0] == md5(guest, path)
    assert snapshots(guest) == []


# -- every kind of volume, by every kind of path


def thick_volume(guest):
    return volume(guest)


def thin_volume(guest):
    path = thin(guest, size="8M")
    fill(guest, path)
    return path


def dashed(guest):
    volume(guest, "data-base", "vg-two")
    return "/dev/mapper/vg--two-data--base"


def linked(guest):
    guest.run(f"ln -s {volume(guest)} /tmp/link")
    return "/tmp/link"


@pytest.mark.parametrize(
    ("make", "kind", "reach"),
    [(thick_volume, "lvm-thick", ()), (thin_volume, "lvm-thin", SSH), (dashed, "lvm-thick", SSH),
     (linked, "lvm-thick", ())],
)  # fmt: skip
def test_what_changes_while_it_is_read_is_not_in_it(guest, tmp_path, make, kind, reach):
    path = make(guest)
    before = md5(guest, path)
    name = tmp_path / "set"
    with held(guest, "--snapshot-size", "12M", *reach, name, f"root@db00:{path}") as process:
        (snapshot,) = snapshots(guest)
        fill(guest, path, 2, at=6)
        go(guest)
        finished(process, 0)

    assert restored(name, tmp_path / "out") == before != md5(guest, path)
    uuid = guest.run(f"lvs --noheadings -o lv_uuid {path}", check=False).strip() or None
    told = manifest(name)
    if make is not linked:  # lvs knows no foreign links
        assert told["source"]["lv_uuid"] == uuid
    assert told["source"] | {"lv_uuid": None} == {
        "host": "db00", "path": path, "kind": kind, "size": 8 * MIB, "lv_uuid": None,
    }  # fmt: skip
    assert told["consistency"] == "crash"
    assert told["quiesce"] is None
    assert set(told["snapshot"]) == {"name", "size", "fill_at_begin", "fill_at_end", "extended"}
    assert told["snapshot"]["name"] == snapshot
    assert told["snapshot"]["extended"] in (0, 1)  # a slow machine writes more beside it
    if kind == "lvm-thin":
        assert told["snapshot"]["size"] is None
    else:
        assert told["snapshot"]["size"] == 12 * MIB  # every block, and the table of them
        assert 0 <= told["snapshot"]["fill_at_begin"] <= told["snapshot"]["fill_at_end"]
        assert told["snapshot"]["fill_at_end"] == pytest.approx(100 * 2 / 12, abs=3)
    assert runs.bare(guest)


def test_a_volume_read_as_it_lives_says_so(guest, tmp_path):
    path = volume(guest)
    name = tmp_path / "set"
    run(guest, "blockdiff-backup", "--no-snapshot", name, f"root@db00:{path}")
    told = manifest(name)

    assert (told["consistency"], told["snapshot"], told["source"]["kind"]) == ("none", None, "block")
    assert restored(name, tmp_path / "out") == md5(guest, path)
    assert not guest.run("grep -l lvcreate /etc/lvm/backup/* 2>/dev/null | xargs -r grep blockdiff_", check=False)


def test_a_local_volume_is_snapshotted_as_well(guest):
    """The backup server is the source host itself."""
    path = volume(guest)
    backup = f"{guest.checkout}/bin/blockdiff-backup --json /tmp/set {path}"
    first = json.loads(guest.run(f"{backup} 2>/tmp/said || cat /tmp/said"))
    fill(guest, path, 1)
    guest.run(f"{backup} && {guest.checkout}/bin/blockdiff-merge /tmp/set /tmp/out")
    told = json.loads(guest.run("cat /tmp/set.2.json"))

    assert (first["consistency"], first["kind"]) == ("crash", "full")
    assert (told["source"]["kind"], told["consistency"]) == ("lvm-thick", "crash")
    assert told["blocks"]["changed"] == 16
    assert md5(guest, "/tmp/out") == md5(guest, path)
    assert runs.bare(guest)


# -- file systems in use


@pytest.mark.parametrize(("kind", "reach"), [("thick", ()), ("thin", SSH)])
def test_a_file_system_in_use_is_restored_clean(guest, tmp_path, kind, reach):
    guest.run(
        {
            "thick": "lvcreate -y -Zn -Wn -L 32M -n data vg0",
            "thin": "lvcreate -y -L 64M -T vg0/pool && lvcreate -y -V 32M -T vg0/pool -n data",
        }[kind]
    )
    guest.run("mkfs.ext4 -q -E lazy_itable_init=0 /dev/vg0/data && mount /dev/vg0/data /mnt && mkdir /mnt/d")
    guest.run(
        "i=0; while :; do i=$((i+1)); n=$((i % 40)); head -c $((n * 3000)) /dev/urandom > /mnt/d/f$n;"
        " echo $i > /mnt/d/new; mv /mnt/d/new /mnt/d/counter; rm -f /mnt/d/f$(((i * 7) % 40));"
        " mkdir /mnt/e$i; rmdir /mnt/e$((i - 9)); [ $n = 5 ] && sync; sleep 0.05;"
        " done >/dev/null 2>&1 & echo $! > /tmp/writer"
    )
    name = tmp_path / "fs"
    for _ in range(3):
        run(guest, "blockdiff-backup", "--snapshot-size", "100%", *reach, name, "root@db00:/dev/vg0/data")
    # what the loop had started may still write
    guest.run("kill $(cat /tmp/writer); for i in $(seq 50); do umount /mnt && exit; sleep 0.1; done; exit 1")

    counters = []
    for version in (1, 2, 3):
        image = tmp_path / f"image{version}"
        restored(name, image, version)
        told = manifest(name, version)
        assert told["consistency"] == "crash"
        assert version == 1 or 0 < told["blocks"]["changed"] < told["blocks"]["total"]
        # the journal is replayed as at a mount after a power cut; then nothing may be left to mend
        replayed = subprocess.run(["e2fsck", "-fp", image], capture_output=True, text=True)
        assert replayed.returncode in (0, 1), replayed.stdout
        checked = subprocess.run(["e2fsck", "-fn", image], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stdout
        text = subprocess.run(["debugfs", "-R", "cat /d/counter", image], capture_output=True, text=True).stdout
        counters.append(int(text or 0))
    assert counters == sorted(counters)
    assert counters[0] < counters[-1]
    assert runs.bare(guest)
