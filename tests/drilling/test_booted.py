"""Drills of data in a partition and in a logical volume, by a kernel in user mode."""

import os
import re
import shutil
import subprocess
import tempfile
import time

import databases
import disks
import pytest
from launched import lacking

from blockdiff.drilling import booted
from blockdiff.errors import DrillFailed, NothingThere

pytestmark = pytest.mark.usefixtures("guests")
_SCRIPT = """
mkfs.xfs -q /dev/ubdb1; mount -t xfs /dev/ubdb1 /dev/w/mnt; cp -a {0}/mariadb/mysql /dev/w/mnt; umount /dev/w/mnt
pvcreate -qq /dev/ubdb2; vgcreate -qq vg /dev/ubdb2; lvcreate -qq -an -Zn -Wn -l 100%FREE -n data vg; vgchange -qq -ay vg
mkfs.ext4 -q /dev/mapper/vg-data; mount /dev/mapper/vg-data /dev/w/mnt; cp -a {0}/postgres/data /dev/w/mnt
"""


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """A disk with MariaDB's data on xfs in partition 1, PostgreSQL's on ext4 in vg/data in partition 2."""
    if os.geteuid() != 0:
        lacking("copies with their owners need root")
    if shutil.which("mariadbd") is None or databases.POSTGRES is None:
        lacking("MariaDB or PostgreSQL is not installed")
    folder = tmp_path_factory.mktemp("disk")
    image = folder / "image"
    subprocess.run(["truncate", "-s", "700M", image], check=True)
    table = "label: gpt\nsize=330M\nsize=330M\n"
    subprocess.run([disks.found("sfdisk"), "-q", image], input=table, text=True, check=True)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as copies:  # a guest has a /dev of its own
        databases.mariadb(databases.copy(f"{copies}/mariadb"))
        databases.postgresql(databases.copy(f"{copies}/postgres"))
        disks.work(image, _SCRIPT.format(copies), folder, cut=False)
    return image


def drill(image, server="", path="/", *, limit_s=100, **more):
    """Run a drill's steps; returns {step: text}."""
    request = {"image": str(image), "server": server, "path": path, "settings": [], "database": "", "queries": [],
               "expect": None, "check": False, "run": None, "part": None, "lv": None, **more}  # fmt: skip
    events = booted.run(request, (3, "vm"), os.environ, str(image.parent), limit_s)
    return {e["step"]: ("FAILED: " if e["failed"] else "") + e["text"] for e in events}


def test_mariadb_in_a_partition(disk):
    before = os.stat(disk)
    found = drill(disk, "mariadb", "mysql", part=1, queries=["SELECT CONCAT('a\\0b', REPEAT('x', 9000))", "SELECT COUNT(*) FROM shop.orders"], expect="^200$|x$", check=True,
                  run="touch here; ls; ls /sys/class/net")  # fmt: skip
    assert list(found) == ["mount", "start", "query", "check", "stop", "run"]
    assert found["mount"] == "xfs in partition 1, by a kernel in user mode, without a network"
    assert re.search(r"recovered \d+ pages from LSN \d+$", found["start"]) and found["query"] == "200"
    assert found["run"] == "lo" and os.stat(disk).st_mtime_ns == before.st_mtime_ns


def test_postgresql_in_a_logical_volume(disk):
    found = drill(disk, "postgres", "data", lv="vg/data", queries=["SELECT COUNT(*) FROM orders"], check=True)
    assert found["mount"] == "ext4 in vg/data, by a kernel in user mode, without a network"
    assert "redo from" in found["start"] and (found["query"], found["stop"]) == ("200", "exit 0")


def test_what_is_not_there(disk):
    with pytest.raises(NothingThere, match=r"single file system, but several .partition 1, vg/data., in version 3 of vm"):
        drill(disk, "mariadb", "mysql")
    with pytest.raises(NothingThere, match="partition 7 in version 3"):
        drill(disk, "mariadb", "mysql", part=7)
    assert drill(disk, "mariadb", "nothing", part=1)["start"] == "FAILED: there is no folder nothing"
    assert drill(disk, run="exit 3", part=1)["run"].startswith("FAILED: exit code 3")


def test_the_limit_ends_it_and_nothing_is_left(disk):
    began = time.monotonic()
    with pytest.raises(DrillFailed, match="after start: the limit of 12 s was reached"):
        drill(disk, "mariadb", "mysql", part=1, queries=["SELECT SLEEP(987)"], limit_s=12)
    assert time.monotonic() - began < 40
