"""The README's lines for a database on a logical volume, run as cron runs them, on real LVM, sshd and MariaDB."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
from test_readme import cron_line, moved, shown_log, timeless

from .database import Database

pytestmark = pytest.mark.lab
BIN = pathlib.Path(__file__).resolve().parents[2] / "bin"


@pytest.fixture
def cron(guest, tmp_path):
    """Return a function that runs a job of the README beside the guest, whose name is db00."""
    for folder in ("var/backup", "var/log", "run"):
        (tmp_path / folder).mkdir(parents=True)
    path = os.pathsep.join((str(BIN), os.path.dirname(sys.executable), os.environ["PATH"]))
    environment = {"PATH": path, "HOME": os.environ.get("HOME", "/root"), "TZ": "UTC"}

    def run(job):
        words = [*guest.netns, "/bin/sh", "-c", moved(job, tmp_path)]
        done = subprocess.run(
            words, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        assert done.stdout == ""

    return run


def test_the_lines_for_a_database_log_what_is_shown(guest, cron, tmp_path):
    Database(guest).start()
    cron(cron_line("/var/backup/db00"))
    log = timeless((tmp_path / "var/log/db00.log").read_text().replace(str(tmp_path), ""))
    assert [line for line in log if not line.startswith("[TIME] lv")] == timeless(shown_log("/dev/vg0/mysql"))
    first = json.loads((tmp_path / "var/backup/db00.1.json").read_text())
    assert (first["consistency"], first["quiesce"]["method"]) == ("application", "ftwrl")
    assert first["quiesce"]["binlog"]["position"] > 0

    cron(cron_line("ssh_lvm_dump"))
    second = json.loads((tmp_path / "var/backup/old.1.json").read_text())
    assert (second["consistency"], second["block_size"]) == ("application", 1 << 20)
    assert "blockdiff" not in guest.run("lvs --noheadings -o lv_name,lv_tags")
