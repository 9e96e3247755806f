"""A version put back onto a logical volume of the host, over a real sshd: refused while it is used, then equal."""

import json
import os
import re
import subprocess
import sys

import pytest
from readme import README

from . import runs
from .agents import eventually, md5
from .runs import SSH, finished, run, started, volume

pytestmark = pytest.mark.lab

MIB = 2**20
NOT_WRITTEN, UNREACHABLE, TERMINATED = 35, 20, 143


@pytest.fixture
def begun(guest, tmp_path):
    """A set of an ext4 on a logical volume: (name, path there, its MD5 then)."""
    path = volume(guest, size="32M")
    guest.run(f"mkfs.ext4 -q -L PRODUCTION {path} && mount {path} /mnt && seq 100000 > /mnt/file && umount /mnt")
    name = tmp_path / "db00"
    run(guest, "blockdiff-backup", "--no-snapshot", name, f"root@db00:{path}")
    return name, path, md5(guest, path)


def refuse(guest, name, path, *words):
    """It is refused, also with force, and not one byte of it changes."""
    before = md5(guest, path)
    said = run(guest, "blockdiff-merge", "--force", name, f"root@db00:{path}", code=NOT_WRITTEN).stderr
    assert all(word in said for word in words), said
    assert md5(guest, path) == before


def test_a_volume_that_is_used_is_refused_and_then_it_is_put_back(guest, begun):
    name, path, whole = begun
    where = f"root@db00:{path}"
    guest.run(f"mount -o ro {path} /mnt")  # else the kernel changes it meanwhile
    try:
        refuse(guest, name, path, f"refusing to write to db00:{path}: it is mounted on /mnt")
        guest.run("mount -o remount,rw /mnt && rm /mnt/file && head -c 3M /dev/urandom > /mnt/other && sync")
    finally:
        guest.run("umount /mnt")
    pid = guest.run(f"sleep 600 <> {path} >/dev/null 2>&1 & echo $!").strip()
    refuse(guest, name, path, f"process {pid} (sleep) has it open", "ext4 (label PRODUCTION)")
    guest.run(f"kill {pid}; while test -e /proc/{pid}; do sleep 0.1; done")
    guest.run(f"dmsetup create onit --table '0 8 linear {path} 0'")
    try:
        refuse(guest, name, path, "it is used by device mapper (onit)")
    finally:
        guest.run("dmsetup remove onit")

    said = run(guest, "blockdiff-merge", name, where, code=NOT_WRITTEN).stderr
    assert "with ext4 (label PRODUCTION) on it" in said and "--force writes over it" in said
    told = json.loads(run(guest, "blockdiff-merge", "--force", "--json", name, where).stdout)
    assert 0 < told["differed"] < 200 and told["target_was"] == f"block device of {32 * MIB} bytes with ext4 (label PRODUCTION) on it"
    assert md5(guest, path) == whole
    for way in ((), SSH):
        told = json.loads(run(guest, "blockdiff-merge", "--force", "--json", *way, name, where).stdout)
        assert (told["differed"], told["sent"]) == (0, 0)
    guest.run(f"fsck.ext4 -nf {path}")
    assert runs.bare(guest)


def test_swap_and_what_is_too_small_and_too_large(guest, begun):
    name, _, whole = begun
    swap = volume(guest, "swap", size="32M")
    guest.run(f"mkswap {swap} && swapon {swap}")
    try:
        refuse(guest, name, swap, "it is swap")
    finally:
        guest.run(f"swapoff {swap}")
    small = volume(guest, "small", size="28M")
    before = md5(guest, small)
    said = run(guest, "blockdiff-merge", "--force", name, f"root@db00:{small}", code=NOT_WRITTEN).stderr
    assert f"it is too small: it has {28 * MIB} bytes, the volume {32 * MIB}" in said and md5(guest, small) == before
    large = volume(guest, "large", size="36M")
    rest = f"tail -c {4 * MIB} {large} | md5sum"
    before = guest.run(rest)
    run(guest, "blockdiff-merge", "--force", name, f"root@db00:{large}")
    assert guest.run(rest) == before
    assert guest.run(f"head -c {32 * MIB} {large} | md5sum").split()[0] == whole


def test_a_restore_that_ended_early_goes_on(guest, begun):
    """Once the wire was cut, once the server was told to end; nothing is left of it on the host."""
    name, path, whole = begun
    guest.run(f"dd if=/dev/urandom of={path} bs=1M count=32 oflag=direct status=none")
    options = ("--force", "--bwlimit", "1M", "--timeout", "3", name, f"root@db00:{path}")
    block = f"head -c {MIB} {path} | md5sum"
    before = guest.run(block)
    with started(guest, *options, program="blockdiff-merge") as process:
        eventually(lambda: guest.run(block) != before)
        process.terminate()
        assert "is partly written; running again sends only" in finished(process, TERMINATED)
    eventually(lambda: runs.bare(guest))
    with started(guest, *options, program="blockdiff-merge") as process:
        eventually(lambda: guest.run("pgrep -f '[p]ushed:assembler'", check=False))
        guest.run("pkill -KILL -f '[p]ushed:assembler'")
        finished(process, 23)
    told = json.loads(run(guest, "blockdiff-merge", "--force", "--json", name, f"root@db00:{path}").stdout)
    assert told["error"] is None and told["differed"] < told["blocks"]
    assert md5(guest, path) == whole and runs.bare(guest)


def test_the_size_that_a_list_shows_is_taken_by_lvcreate(guest, begun):
    name, _, whole = begun
    size = f"{32 * MIB}b"
    assert size in run(guest, "blockdiff-list", name).stdout
    guest.run(f"lvcreate -y -Wn -Zn -L {size} -n again vg0")
    assert int(guest.run("blockdev --getsize64 /dev/vg0/again")) == 32 * MIB
    run(guest, "blockdiff-merge", "--force", name, "root@db00:/dev/vg0/again")
    assert md5(guest, "/dev/vg0/again") == whole


def test_the_lines_of_the_readme_put_a_volume_back(guest, tmp_path):
    """To the letter, with folders of the test's own; and what is shown is what is printed."""
    section = README.partition("## Put the volume back\n")[2].partition("\n## ")[0]
    lines = [line[4:] for line in section.splitlines() if line.startswith("    ") and "root@db00" in line]
    (shown,) = re.findall(r"^```\n(.*?)^```$", section, re.M | re.S)
    (tmp_path / "var/backup").mkdir(parents=True)
    path = volume(guest, "mysql", size="32M")
    guest.run(f"mkfs.ext4 -q -L mysql {path} && mount {path} /mnt && head -c 3M /dev/urandom > /mnt/file && umount /mnt")
    run(guest, "blockdiff-backup", "--no-snapshot", tmp_path / "var/backup/db00", f"root@db00:{path}")
    whole = md5(guest, path)
    guest.run(f"mount {path} /mnt && head -c 3M /dev/urandom > /mnt/other && dd if=/mnt/other of=/mnt/file conv=notrunc status=none && sync")
    environment = {
        "PATH": os.pathsep.join((str(runs.BIN), os.path.dirname(sys.executable), os.environ["PATH"])),
        "HOME": os.environ.get("HOME", "/root"),
    }
    said = []
    for line in lines:
        words = [*guest.netns, "sh", "-ec", 'mount --bind "$0/var" /var; exec /bin/sh -c "$1"', tmp_path, line]
        done = subprocess.run(words, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        said.append(done.stdout)
        if "blockdiff-merge --force /var" in line:
            assert md5(guest, path) == whole
    assert len(said) == 4 and "write version 1" in said[1]
    assert re.sub(r"[\d.]+ (?=of|MiB|s,)", "", said[2]) == re.sub(r"[\d.]+ (?=of|MiB|s,)", "", shown), said[2]
