"""--json of a run that fails: one object on standard output all the same."""

import json
import os

import chains
import pytest

BLOCK = 512


@pytest.fixture
def backup_set(tmp_path):
    backup_set = chains.new_set(tmp_path)
    chains.write_version(backup_set, os.urandom(30 * BLOCK), BLOCK)
    return backup_set


@pytest.mark.parametrize(
    "verb, operands, name, code",
    [
        ("merge", ["{none}", "{out}"], "NoSuchSet", 10),
        ("merge", ["--to", "9", "{set}", "{out}"], "NoSuchVersion", 11),
        ("merge", ["--to", "9", "{out}"], "UsageError", 2),
        ("merge", ["--jobs", "0", "{set}", "{out}"], "BadParameter", 2),
        ("verify", ["{none}"], "NoSuchSet", 10),
    ],
)
def test_json_of_a_run_that_fails_is_one_object(verb, operands, name, code, run, backup_set, tmp_path):
    places = {"none": tmp_path / "none", "set": backup_set.name, "out": tmp_path / "out"}

    done = run(f"blockdiff-{verb}", "--json", *(operand.format(**places) for operand in operands))

    assert done.returncode == code
    told = json.loads(done.stdout)["error"]
    assert set(told) == {"class", "message", "hint", "exit_code"}
    assert (told["class"], told["exit_code"]) == (name, code)
    assert told["message"] in done.stderr and told["hint"] in done.stderr


def test_json_of_a_restore_that_fails_has_the_same_error(run, backup_set, tmp_path):
    with open(backup_set.path(1, ".gz"), "r+b") as file:
        file.seek(30)
        file.write(b"damage")

    done = run("blockdiff-merge", "--json", backup_set.name, tmp_path / "out")

    told = json.loads(done.stdout)  # one object, not two
    assert set(told["error"]) == {"class", "message", "hint", "exit_code"}
    assert told["error"]["exit_code"] == done.returncode and done.returncode >= 50
    assert told["error"]["message"] in done.stderr and told["right"]["ranges"] is not None
