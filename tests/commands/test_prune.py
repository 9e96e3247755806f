"""blockdiff-prune as a program: options, what it prints, exit codes."""

import fcntl
import json
import os
import re

import chains
import nights
import pytest
from devices import mounted
from nights import new, numbers, state

RULES = ("--keep-daily", "3", "--keep-weekly", "3")


@pytest.fixture
def prune(run, tmp_path):
    """Run the program with these words."""
    env = {"XDG_STATE_HOME": str(tmp_path / "state"), "TZ": "UTC"}

    def prune(*words, code=0, **options):
        done = run("blockdiff-prune", *words, env={**env, **options})
        assert done.returncode == code, (done.stdout, done.stderr)
        return done

    return prune


def test_a_dry_run_prints_the_table_that_a_run_prints(prune, tmp_path):
    backup_set, _ = new(tmp_path / "set", 17)
    before = state(tmp_path / "set")

    plan = prune("-n", *RULES, backup_set.name).stdout

    assert state(tmp_path / "set") == before and not (tmp_path / "state").exists()
    assert not os.path.exists(backup_set.name + ".lock")
    done = prune(*RULES, backup_set.name).stdout
    assert plan.split("\n", 1)[1] == done.split("\n", 1)[1]
    first = plan.splitlines()[0]
    assert re.search(r": 17 versions, [\d.]+ KiB: 5 stay, 12 go; frees [\d.]+ KiB, reads [\d.]+ KiB, writes ", first)
    assert re.search(r": 5 stay, 12 gone; 17 proved, freed [\d.]+ KiB, written [\d.]+ KiB$", done.splitlines()[0])
    rows = [re.split(r"  +", line.strip()) for line in plan.splitlines()[1:]]
    assert rows[0] == ["version", "time", "kind", "stored", "plan", "why"]
    assert rows[2][0] == "2-6" and rows[2][4:] == ["go", "with 1"]
    assert rows[3][:3] == ["7", "2024-03-03 03:00:00 UTC", "incremental"]
    assert rows[3][4:] == ["stay", "week 3; made a full"]
    assert numbers(backup_set) == [7, 14, 15, 16, 17]


def test_json_has_the_same(prune, tmp_path):
    backup_set, _ = new(tmp_path / "set", 17)
    plan = json.loads(prune("--json", "-n", *RULES, backup_set.name).stdout)
    done = json.loads(prune("--json", *RULES, backup_set.name).stdout)
    assert plan["versions"] == done["versions"] and plan["dry_run"] and not done["dry_run"]
    assert (done["stay"], done["go"], done["held"], done["proved"], done["error"]) == (5, 12, 0, 17, None)
    assert done["frees"] > 0 and 0 < done["writes"] <= 4 * done["frees"]


def test_media_that_are_read_only(prune, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    new(tmp_path / "set", 5)
    with mounted("none", tmp_path / "ro", "-o", "bind,ro", source=tmp_path / "set") as folder:
        assert "3 go" in prune("-n", "--keep-last", "2", folder).stdout
        prune("--keep-last", "2", folder, code=15)


def test_the_time_zone_decides_what_a_day_is(prune, tmp_path):
    backup_set = chains.new_set(tmp_path)
    for number, time in enumerate(("2024-06-01T21:00:00Z", "2024-06-01T23:00:00Z"), 1):
        chains.write_version(backup_set, bytes([number]) * 640, 64, begun=time)
    words = ("-n", "--json", "--keep-daily", "1", "--keep-last", "1", backup_set.name)
    assert json.loads(prune(*words, TZ="UTC").stdout)["go"] == 1
    words = ("-n", "--json", "--keep-daily", "2", backup_set.name)
    for zone in ("UTC", "Europe/Berlin"):
        (row,) = [row for row in json.loads(prune(*words, TZ=zone).stdout)["versions"] if row["first"] == 1]
        assert row["why"] == {"UTC": "oldest, until there are 2 days", "Europe/Berlin": "day 2"}[zone]


def test_a_time_at_the_border_of_the_calendar(prune, tmp_path):
    backup_set = chains.new_set(tmp_path)
    for number, time in enumerate(("0001-01-01T00:00:00Z", "2024-06-01T23:00:00Z"), 1):
        chains.write_version(backup_set, bytes([number]) * 640, 64, begun=time)
    assert "2 stay" in prune("-n", "--keep-daily", "2", backup_set.name, TZ="America/New_York").stdout


@pytest.mark.parametrize(
    "words",
    [
        (), ("--keep", "3"), ("--keep-last", "0"), ("--keep-last", "x"), ("--keep-within", "3"),
        ("--keep-last", "1", "--keep", "1,,2"), ("--keep-last", "1", "--budget", "12"),
        ("--keep-last", "1", "--max-chain", "1"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_wrong_usage(words, prune, tmp_path):
    backup_set, _ = new(tmp_path / "set", 3)
    before = state(tmp_path / "set")
    prune(*words, backup_set.name, code=2)
    prune("--keep-last", "1", code=2)
    assert state(tmp_path / "set") == before


def test_exit_codes(prune, tmp_path):
    backup_set, _ = new(tmp_path / "set", 3)
    prune("--keep-last", "1", tmp_path / "none", code=10)
    assert not os.path.exists(tmp_path / "none.lock")
    prune("--keep-last", "1", "--keep", "7", backup_set.name, code=11)
    with open(backup_set.name + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        prune("--keep-last", "1", "--wait", "1", backup_set.name, code=12)
    part = backup_set.part(3, ".gz")  # of an active run that rewrites a version
    prune("--keep-last", "1", backup_set.name, code=12)
    part.discard()
    os.rename(backup_set.name + ".ver", tmp_path / "ver")
    prune("--keep-last", "1", backup_set.name, code=14)
    os.rename(tmp_path / "ver", backup_set.name + ".ver")
    os.truncate(backup_set.path(3, ".gz"), 100)
    done = prune("--keep-last", "1", backup_set.name, code=51)
    assert "hint: nothing was removed" in done.stderr and numbers(backup_set) == [1, 2, 3]


def test_a_dead_run_s_work_is_finished(prune, tmp_path):
    backup_set, _ = new(tmp_path / "set", 5)
    os.rename(backup_set.path(1, ".md5"), backup_set.path(1, ".md5.part"))
    os.rename(backup_set.path(2, ".md5"), backup_set.path(2, ".md5.part"))
    nights.write(backup_set, 1, {5: bytes(64 * 40)}, fulls=(6,))
    done = prune("--keep-last", "1", backup_set.name, code=3)
    assert "2 versions" in done.stderr and not os.path.exists(backup_set.path(1, ".gz"))


def test_a_folder_and_sets_of_which_one_fails(prune, tmp_path):
    one, _ = new(tmp_path / "set", 5, base="one")
    two, _ = new(tmp_path / "set", 5, base="two")
    os.truncate(one.path(5, ".gz"), 50)
    done = prune("--keep-last", "2", tmp_path / "set", code=51)
    assert done.stderr.startswith(f"blockdiff: {one.name}: ") and numbers(two) == [4, 5]
    assert numbers(one) == [1, 2, 3, 4, 5]
    done = prune("-q", "--keep-last", "1", one.name, two.name, code=51)
    assert done.stdout == "" and numbers(two) == [5]
    rows = [json.loads(line) for line in prune("--json", "--keep-last", "1", tmp_path / "set", code=51).stdout.splitlines()]
    assert rows[0]["error"]["exit_code"] == 51 and rows[1]["exit_code"] == 0
    prune("-q", "--keep-last", "1", two.name)


def test_a_budget(prune, tmp_path):
    backup_set, _ = new(tmp_path / "set", 9)
    done = prune("--keep-last", "2", "--budget", "1K", backup_set.name, code=3)
    assert "the budget ended" in done.stderr and len(numbers(backup_set)) == 9
    prune("--keep-last", "2", "--budget", "1h", backup_set.name)
    assert numbers(backup_set) == [8, 9]


def test_sets_of_one_moment(prune, tmp_path):
    """`db` and `log` have common moments but for the third, of which `log` has none."""
    sets = [chains.new_set(tmp_path, base) for base in ("db", "log")]
    for backup_set, third in zip(sets, ("c", None), strict=True):
        for number, moment in enumerate(("a", "b", third, "d"), 1):
            chains.write_version(backup_set, os.urandom(640), 64, full=True, begun=nights.begun(number), moment=moment)
    prune("--together", "--keep-last", "2", tmp_path)
    assert numbers(sets[0]) == [2, 3, 4] and numbers(sets[1]) == [2, 3, 4]
