"""The README's lines for a database on a logical volume, run as cron runs them, on real LVM, sshd and MariaDB."""

import fcntl
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest
from readme import cron_line, shown_log, timeless

from .conftest import unavailable
from .database import Database

pytestmark = pytest.mark.lab
BIN = pathlib.Path(__file__).resolve().parents[2] / "bin"


# The folders that the lines name are a test's own, for them alone: see guest.ENTER.
MOVE = 'for folder in /var /run; do mount --bind "$0$folder" "$folder"; done; exec /bin/sh -c "$1"'


@pytest.fixture
def cron(guest, tmp_path):
    """Return a function that runs a job as cron does, to the letter, beside the guest, whose name is db00."""
    for folder in ("var/backup", "var/log", "run"):
        (tmp_path / folder).mkdir(parents=True)
    environment = {
        "PATH": os.pathsep.join((str(BIN), os.path.dirname(sys.executable), "/usr/bin", "/bin")),
        "HOME": os.environ.get("HOME", "/root"),
        "LOGNAME": "root",
        "SHELL": "/bin/sh",
        "TZ": "UTC",
    }

    def run(job, code=0):
        words = [*guest.netns, "sh", "-ec", MOVE, tmp_path, job]
        done = subprocess.run(
            words, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300
        )
        assert (done.returncode, done.stderr) == (code, "")
        assert code or not done.stdout
        return done.stdout

    return run


def test_the_lines_for_a_database_log_what_is_shown(guest, cron, tmp_path):
    Database(guest).start(size="128M")
    cron(cron_line("root@db00:/dev/vg0/mysql"))
    log = timeless((tmp_path / "var/log/db00.log").read_text())
    assert log == timeless(shown_log("/dev/vg0/mysql"))
    first = json.loads((tmp_path / "var/backup/db00.1.json").read_text())
    assert (first["consistency"], first["quiesce"]["method"]) == ("application", "ftwrl")
    assert first["quiesce"]["binlog"]["position"] > 0

    job = cron_line("ssh_lvm_dump")
    cron(job)
    second = json.loads((tmp_path / "var/backup/old.1.json").read_text())
    assert (second["consistency"], second["block_size"]) == ("application", 1 << 20)
    assert "blockdiff" not in guest.run("lvs --noheadings -o lv_name,lv_tags")

    # a run that is still at work keeps the next one from beginning, and is reported
    with open(tmp_path / "var/backup/old.lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        printed = cron(job, code=12)
    assert "old is locked by another run" in printed
    assert printed.endswith("command exited with code:12\n")
    assert (tmp_path / "var/log/db00.log").read_text().endswith(printed)
    # as daemontools and util-linux have it in crontabs of 2010
    for before in ("setlock -nX /run/db00.lock", "flock -n /run/db00.lock"):
        if shutil.which(before.split()[0]) is None:
            unavailable("the lab needs daemontools")
        cron(job.replace("cronlog", f"{before} cronlog"))
    assert (tmp_path / "var/backup/old.ver").read_text() == "3\n"
