"""What a backup did: warnings decide the exit code, and all of it is in the JSON."""

import dataclasses

from blockdiff.sets.outcome import Outcome

DONE = Outcome("db", 2, "incremental", 20, 8, 3, 2, 1, 20, 40, 36, 31, 1.5, "crash")


def test_warnings_decide_the_exit_code():
    assert (DONE.exit_code, dataclasses.replace(DONE, warnings=["look"]).exit_code) == (0, 3)


def test_its_json_has_every_field():
    assert DONE.as_json() == {
        "name": "db", "version": 2, "kind": "incremental", "size": 20, "block_size": 8, "blocks": 3, "changed": 2, "zero": 1,
        "read": 20, "wire": 40, "payload": 36, "stored": 31, "seconds": 1.5, "consistency": "crash", "hint": None,
        "warnings": [],
    }  # fmt: skip
