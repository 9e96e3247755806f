"""The lab itself: what the other tests rely on."""

import os
import subprocess

import pytest

from .database import PASSWORD, Database

pytestmark = pytest.mark.lab


def test_nothing_of_this_machine_can_be_written(guest):
    for folder in ("/etc", "/usr/bin", "/var/lib", guest.checkout, "/run/lab"):
        assert "Read-only" in guest.run(f"touch {folder}/x 2>&1", check=False)
    guest.run("touch /root/x /tmp/x /mnt/x /var/log/x /etc/lvm/x")
    assert not os.path.exists("/mnt/x")


def test_the_namespace_finds_the_guest_by_name(guest):
    done = subprocess.run(
        [*guest.netns, "ssh", "-o", "BatchMode=yes", f"root@{guest.hostname}", "hostname"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, f"{guest.hostname}\n"), done.stderr


def test_a_cut_cable_is_silence_and_not_an_end(guest):
    process = guest.popen("while sleep 0.2; do echo beat; done", shared=False, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "beat\n"
        guest.cut_network()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=2)
        guest.restore_network()
        assert guest.run("echo back", timeout=10) == "back\n"
    finally:
        process.kill()
        process.communicate()


def test_a_database_serves_from_its_volume(guest):
    database = Database(guest)
    volume = database.start()
    database.sql("CREATE DATABASE d")
    database.sql("CREATE TABLE d.t (n INT) ENGINE=InnoDB; INSERT INTO d.t VALUES (7)")

    assert database.sql("SELECT n FROM d.t").strip() == "7"
    assert "binlog" in database.sql("SHOW MASTER STATUS")
    assert guest.run(f"findmnt -n -o TARGET -S {volume}").strip() == "/var/lib/mysql"
    client = [*guest.netns, "mariadb", "--no-defaults", "-h", guest.address, "-u", "backup", "-N"]
    done = subprocess.run(
        [*client, f"-p{PASSWORD}", "-e", "FLUSH TABLES WITH READ LOCK; SELECT 1; UNLOCK TABLES"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    database.stop()
    guest.run("umount /var/lib/mysql")
