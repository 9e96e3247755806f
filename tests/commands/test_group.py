"""`blockdiff` is the group of all commands, and every launcher in bin/ is one of them."""

import json
import os
import re

import pytest
from conftest import ROOT

LAUNCHERS = sorted(path.name for path in (ROOT / "bin").iterdir())

GROUPED = {
    "backup": "blockdiff-backup", "dump": "blockdiff-dump", "ssh-dump": "ssh-blockdiff-dump",
    "lvm-dump": "ssh-lvm-dump", "merge": "blockdiff-merge", "verify": "blockdiff-verify", "nbd": "blockdiff-nbd", "list": "blockdiff-list", "look": "blockdiff-look",
    "check": "blockdiff-check", "report": "blockdiff-report", "prune": "blockdiff-prune", "consolidate": "blockdiff-consolidate", "copy": "blockdiff-copy", "drill": "blockdiff-drill", "run": "blockdiff-run", "mysqllock": "mysqllock", "cronlog": "cronlog",
}  # fmt: skip


@pytest.mark.parametrize("typed, meant", [("verfy", "verify"), ("bakup", "backup"), ("cronlogg", "cronlog")])
def test_a_mistyped_command_is_suggested(run, typed, meant):
    done = run("blockdiff", typed, "name")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(f"No such command '{typed}'. Did you mean '{meant}'?\n")


@pytest.mark.parametrize(
    "words, meant",
    [
        (["blockdiff-verify", "--jbos", "3", "name"], "--jobs"),
        (["blockdiff", "list", "--jsn"], "--json"),
        (["cronlog", "--logflie", "L", "--", "true"], "--logfile"),
    ],
)
def test_a_mistyped_option_is_suggested(run, words, meant):
    done = run(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.search(rf"Did you mean .*{meant}", done.stderr)


def test_h_is_no_host(run):
    """Where -h stands for the host elsewhere, a command must not be passed over with success."""
    done = run("mysqllock", "-h", "db00", "true")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--host" in done.stderr


def test_the_group_has_every_launcher():
    plain = {name.replace("_", "-") for name in LAUNCHERS}
    assert plain == {"blockdiff", *GROUPED.values()}


@pytest.mark.parametrize("name", GROUPED)
def test_help_in_the_group(run, name):
    """The same options and the same words, under another name."""
    grouped, alone = run("blockdiff", name, "--help"), run(GROUPED[name], "--help")
    assert grouped.returncode == 0
    assert grouped.stdout.split("\n\n")[1:] == alone.stdout.split("\n\n")[1:] or (
        grouped.stdout.split()[3:] == alone.stdout.split()[2:]
    )


def test_the_group_itself(run):
    assert run("blockdiff").returncode == 2
    assert run("blockdiff", "no-such").returncode == 2


def test_a_backup_and_all_that_follows_by_the_group(run, tmp_path):
    source, target = tmp_path / "volume", tmp_path / "target"
    source.write_bytes(os.urandom(100_000))
    done = run("blockdiff", "backup", "--block-size", "4K", tmp_path / "db", source)
    assert (done.returncode, done.stdout) == (0, "")
    running, done_line, version = done.stderr.splitlines()
    assert (running, done_line) == (f"running: {source}", "backup completed successfully")
    assert version.startswith(f"version 1 of {tmp_path / 'db'}: full, ")
    source.write_bytes(source.read_bytes()[:50_000] + b"changed")
    done = run("blockdiff-backup", "--json", tmp_path / "db", source)
    assert json.loads(done.stdout)["version"] == 2
    # under the group a source is a source, whatever an older name of the program would take it for
    done = run("blockdiff", "backup", "--json", tmp_path / "db", "blockdiff_dump", "-z", source)
    assert (json.loads(done.stdout)["version"], json.loads(done.stdout)["changed"]) == (3, 0)
    assert run("blockdiff", "verify", tmp_path / "db").returncode == 0
    assert "3 versions" in run("blockdiff", "list", tmp_path).stdout
    assert run("blockdiff", "merge", tmp_path / "db", target).returncode == 0
    assert target.read_bytes() == source.read_bytes()


def test_exit_codes_come_through_the_group(run, tmp_path):
    assert run("blockdiff", "backup", tmp_path / "db", tmp_path / "missing").returncode == 30
    assert run("blockdiff", "backup", tmp_path / "no" / "db", tmp_path / "missing").returncode == 10
    assert run("blockdiff", "merge", tmp_path / "db", tmp_path / "target").returncode == 10
    assert run("blockdiff", "cronlog", "--", "sh", "-c", "exit 7").returncode == 7
