"""blockdiff-run as people and cron call it: what it prints, its table, its exit codes."""

import json
import os
import re

import numbers_line
import pytest

from blockdiff.jobtext import RULE

USAGE, WARNINGS, NO_VOLUME, STRANGE = 2, 3, 30, 50
HOST = os.uname().nodename
DASHES = RULE.decode()


@pytest.fixture
def listed(run, tmp_path):
    """A function that runs a list of lines in a folder with a volume; returns what subprocess.run does."""
    (tmp_path / "v").write_bytes(os.urandom(100_000))

    def listed(lines, *words, **options):
        (tmp_path / "jobs").write_text("\n".join(lines))
        return run("blockdiff-run", *words, **{"cwd": tmp_path, **options})

    return listed


def parts(text):
    """Return the texts of the backups, and the table's rows."""
    _, *some, table = text.split(DASHES)
    return some, [re.split(r" {2,}", line) for line in table.splitlines()]


def test_each_in_cronlogs_format_and_a_table(listed, tmp_path):
    done = listed(["a v", "'b b' v --with c v"], "-P", "1", "jobs")
    assert (done.returncode, done.stderr) == (0, "")
    (first, second), rows = parts(done.stdout)
    assert numbers_line.without(first.splitlines()) == [
        f"{HOST} starting: blockdiff-backup a v", "running: v", "backup completed successfully",
        "command exited with code:0",
    ]  # fmt: skip
    assert second.startswith(f"{HOST} starting: blockdiff-backup 'b b' v --with c v\n")
    assert rows[0] == ["set", "version", "kind", "changed", "stored", "seconds", "exit", "why"]
    stored = f"{os.path.getsize(tmp_path / 'a.1.gz') / 1024:.1f} KiB"
    assert [row[:5] + row[6:] for row in rows[1:]] == [
        [name, "1", "full", "97.7 KiB", stored, "0"] for name in ("a", "b b", "c")
    ]


def test_the_options_are_before_the_words_of_each(listed, tmp_path):
    assert listed(["a v", "b blockdiff_dump v"], "jobs", "--", "--zstd", "--full").returncode == 0
    assert (tmp_path / "a.1.zst").exists() and (tmp_path / "b.1.zst").exists()


def test_lines_have_times(listed):
    (one,), _ = parts(listed(["a v"], "-t", "jobs").stdout)
    assert all(re.match(r"\[\w{3} \w{3} [ \d]\d [\d:]{8} \d{4}\] ", line) for line in one.splitlines())


def test_a_line_that_fails_does_not_stop_the_others(listed, tmp_path):
    assert listed(["w v"], "jobs").returncode == 0
    (tmp_path / "w.1.md5").write_bytes(b"torn")
    lines = ["w v", "x missing", "no/folder v", "b v"]
    done = listed(lines, "-q", "jobs")
    assert (done.returncode, done.stderr) == (NO_VOLUME, "")
    some, rows = parts(done.stdout)
    assert sorted(text.split("\n")[0].split()[-2] for text in some) == ["no/folder", "w", "x"]
    assert [(row[0], row[-2 if len(row) == 8 else -1]) for row in rows[1:]] == [
        ("w", "3"), ("x", "30"), ("no/folder", "10"), ("b", "0"),
    ]  # fmt: skip
    assert rows[1][-1].startswith("version 1 cannot be continued, making a full version: ")
    assert rows[2][-1].startswith("no such volume: ")


def test_exit_codes(listed, tmp_path):
    """0; 3 if there are only warnings; else the code of the first line that failed, whichever ends first."""
    assert listed(["w v"], "-q", "jobs").stdout == ""
    (tmp_path / "w.1.md5").write_bytes(b"torn")
    done = listed(["w v", "b v"], "-q", "jobs")
    assert done.returncode == WARNINGS
    assert done.stdout.count("starting: ") == 1
    (tmp_path / "w.2.md5").write_bytes(b"torn")
    assert listed(["b v", "w v --no-auto-full", "x missing"], "jobs").returncode == STRANGE
    assert listed(["b v", "x missing", "w v --no-auto-full"], "jobs").returncode == NO_VOLUME
    assert listed(["b v"], "jobs").returncode == 0


def test_a_bad_line_starts_nothing(listed, tmp_path):
    done = listed(["a v", "b 'v"], "jobs")
    assert (done.returncode, done.stdout) == (USAGE, "")
    assert "jobs, line 2: cannot be split into words" in done.stderr
    assert not (tmp_path / "a.ver").exists()
    for lines in (["a v --json"], ["a v", "b 'v"], ["a v", "b v --json"]):
        assert json.loads(listed(lines, "--json", "jobs").stdout)["error"]["exit_code"] == USAGE


def test_standard_input(listed, tmp_path):
    assert listed([], "-", input="a v\n").returncode == 0
    assert (tmp_path / "a.ver").exists()


def test_json(listed):
    done = listed(["a v --block-size 64K", "x missing", "b v --with y missing", "c v --with d v"], "--json", "jobs")
    told = json.loads(done.stdout)
    assert (done.returncode, told["exit_code"]) == (NO_VOLUME, NO_VOLUME)
    assert done.stderr.count("starting: ") == 4
    assert [(each["line"], each["set"], each["version"], each["exit_code"]) for each in told["backups"]] == [
        (1, "a", 1, 0), (2, "x", None, 30), (3, "b", None, 30), (3, "y", None, 30), (4, "c", 1, 0), (4, "d", 1, 0),
    ]  # fmt: skip
    first, failed = told["backups"][:2]
    assert (first["kind"], first["changed"], first["why"]) == ("full", 100_000, "")
    assert (failed["kind"], failed["stored"]) == (None, None) and "missing" in failed["why"]
    assert json.loads(listed(["a v"], "--json", "-q", "jobs").stdout)["backups"][0]["changed"] == 0


def test_a_dry_run(listed, tmp_path):
    done = listed(["a v", "x missing"], "--dry-run", "jobs")
    assert done.returncode == NO_VOLUME
    assert "would write version 1 of a: full" in done.stdout
    assert f"{HOST} starting: blockdiff-backup --dry-run a v\n" in done.stdout
    assert parts(done.stdout)[1][2][-1].startswith("no such volume: ")
    told = json.loads(listed(["a v"], "--dry-run", "--json", "jobs").stdout)
    assert [told["backups"][0][key] for key in ("version", "kind", "stored")] == [1, "full", None]
    assert not list(tmp_path.glob("a.*"))


def test_modules_of_the_current_folder_are_not_taken_for_ours(listed, tmp_path):
    for name in ("ctypes", "blockdiff", "click", "signal"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('wrong module')")
    assert listed(["a v"], "jobs").returncode == 0
