"""blockdiff-verify as a launched program: output and exit codes."""

import json
import os

import chains
import places
from verbs import BLOCK, damage

GOLDEN = places.GOLDEN


def test_verify_of_a_whole_set(run_verb, plain_set):
    done = run_verb("verify", plain_set.name)

    assert (done.returncode, done.err) == (0, "")
    assert "versions that restore: 1-3" in done.out and "do not" not in done.out


def test_verify_names_what_is_lost(run_verb, plain_set):
    damage(plain_set, 1, 4 + 20 * (8 + BLOCK) + 8)
    damage(plain_set, 3, 4 + 8)

    done = run_verb("verify", plain_set.name)
    told = json.loads(run_verb("verify", "--json", plain_set.name).out)

    assert done.returncode == told["exit_code"] == 53
    assert "versions that do not: 1-3" in done.out and f"{20 * BLOCK}-{21 * BLOCK - 1}" in done.out
    assert len(done.err.splitlines()) == 2 and all(
        line.startswith("blockdiff: version") for line in done.err.splitlines()
    )
    assert told["restorable"] == []
    assert [v["lost"]["ranges"] for v in told["versions"]] == [
        [[20 * BLOCK, 21 * BLOCK]],
        [[20 * BLOCK, 21 * BLOCK]],
        [[2 * BLOCK, 3 * BLOCK], [20 * BLOCK, 21 * BLOCK]],
    ]
    assert [f["error"] for v in told["versions"] for f in v["faults"]] == ["DigestMismatch"] * 2


def test_verify_of_files_that_only_speed_things_up(run_verb, plain_set):
    os.unlink(plain_set.path(2, ".xxh128"))
    done = run_verb("verify", "-q", plain_set.name)
    assert (done.returncode, done.out) == (3, "") and "xxh128" in done.err


def test_verify_new_reads_only_what_is_new(run_verb, plain_set):
    assert json.loads(run_verb("verify", "--json", "--new", plain_set.name).out)["read"] > 0
    chains.write_version(plain_set, plain_set.volume + b"more", BLOCK)
    told = json.loads(run_verb("verify", "--json", "--new", plain_set.name).out)

    assert [v["proved_before"] for v in told["versions"]] == [True, True, True, False]
    assert all(v["restores"] for v in told["versions"])
    assert set(os.listdir(plain_set.folder)) >= {"vol.1", "vol.ver"}
    assert not [name for name in os.listdir(plain_set.folder) if "verif" in name]
    told = json.loads(run_verb("verify", "--json", plain_set.name).out)
    assert not any(v["proved_before"] for v in told["versions"])


def test_verify_exit_codes(run_verb, plain_set, tmp_path):
    assert run_verb("verify", tmp_path / "none").returncode == 10
    assert run_verb("verify", "--to", "7", plain_set.name).returncode == 11
    assert run_verb("verify").returncode == 2
    os.unlink(plain_set.name + ".ver")
    assert run_verb("verify", plain_set.name).returncode == 14
