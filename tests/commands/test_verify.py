"""blockdiff-verify as a launched program: output and exit codes."""

import json
import os
import pathlib

import chains
import places
from verbs import BLOCK, damage

from blockdiff import verify
from blockdiff.commands import state

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


def test_a_folder_stands_for_its_sets(run_verb, tmp_path):
    for name in ("a", "b"):
        chains.random_set(tmp_path, 2, BLOCK, base=name)
    (tmp_path / "empty").mkdir()
    done = run_verb("verify", "--json", tmp_path)
    assert done.returncode == 0
    assert [json.loads(line)["set"] for line in done.out.splitlines()] == [str(tmp_path / "a"), str(tmp_path / "b")]
    done = run_verb("verify", tmp_path / "empty")
    assert done.returncode == 2 and "there is no set in" in done.err


def test_damage_is_remembered_until_a_verify_finds_the_version_whole(run_verb, plain_set):
    """By check, list and prune: after a verify, and after a scrub."""
    whole = pathlib.Path(plain_set.path(2, "")).read_bytes()
    name = plain_set.name
    for words in (("--oldest-first",), ("--to", "3"), ()):
        damage(plain_set, 2, 4 + 8)
        assert run_verb("verify", *words, name).returncode == 53
        done = run_verb("check", "--age", "9000d", "--proved", "9000d", "--still", "9000d", name)
        assert done.returncode == 2 and " was found damaged 0 min ago: " in done.out and "vol.2: bytes" in done.out
        listed = json.loads(run_verb("list", "--json", name).out)["sets"][0]["versions"]
        assert [v["restores"] for v in listed] == [True, False, None if words == ("--oldest-first",) else False]
        assert "vol.2: bytes" in listed[1]["damage"]
        shown = run_verb("list", name).out
        assert "NO: a verify found" in shown
        assert ("?: version 2, which it needs, is damaged" in shown) is (words == ("--oldest-first",))
        for dry in ((), ("-n",)):
            done = run_verb("prune", *dry, "--keep-last", "1", name)
            assert done.returncode == 52 and "hint: nothing was removed; put right" in done.err

        pathlib.Path(plain_set.path(2, "")).write_bytes(whole)
        assert "was found damaged" in run_verb("check", name).out, "nobody has looked"
        assert run_verb("verify", "-q", *words, name).returncode == 0
        assert "was found damaged" not in run_verb("check", name).out
        assert "NO" not in run_verb("list", name).out
    assert run_verb("prune", "-n", "--keep-last", "1", name).returncode == 0


def test_a_scrub_proves_the_oldest_proofs_within_its_budget(run_verb, tmp_path):
    """With so small a budget each run proves one version; nothing is proved twice before all were proved once."""
    for name in ("a", "b"):
        chains.random_set(tmp_path, 3, BLOCK, base=name)
    seen = []
    for _ in range(7):
        done = run_verb("verify", "--json", "--budget", "1K", tmp_path)
        assert (done.returncode, done.err) == (0, "")
        told = json.loads(done.out)
        assert len(told["versions"]) == 1 and told["due"] == 6
        assert told["never_proved"] == max(0, 5 - len(seen)) and told["oldest_proof"].endswith("Z")
        assert 0 < told["read"] < told["stored"]
        seen.append((told["versions"][0]["set"], told["versions"][0]["version"]))
    assert len(set(seen)) == 6 and seen[6] in seen[:6]

    done = run_verb("verify", "--every", "1d", tmp_path)
    assert done.returncode == 0 and done.out.startswith("read 0 bytes of ") and ", oldest proof now 0 min" in done.out
    done = run_verb("verify", "--oldest-first", tmp_path)
    assert done.out.splitlines()[:2] == [f"{tmp_path}/a: versions 1-3 are whole", f"{tmp_path}/b: versions 1-3 are whole"]
    assert run_verb("verify", "-q", "--oldest-first", tmp_path).out == ""
    assert run_verb("check", "--age", "9000d", "--proved", "1d", "--still", "9000d", tmp_path).returncode == 0


def test_what_a_scrub_did_not_prove_without_fault_counts_as_never_proved(run_verb, plain_set):
    assert json.loads(run_verb("verify", "--json", "--oldest-first", plain_set.name).out)["never_proved"] == 0
    os.unlink(plain_set.path(2, ".xxh128"))
    done = run_verb("verify", "--json", "--oldest-first", plain_set.name)
    assert (done.returncode, json.loads(done.out)["never_proved"]) == (3, 1)


def test_notes_of_versions_that_a_verify_did_not_see_stay(run_verb, plain_set, monkeypatch, tmp_path):
    """Of one that was published and proved by another program meanwhile."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    proofs = verify.verify(plain_set).proofs
    state.add_proofs(plain_set.name, {3: proofs[3]})
    found = verify.verify(plain_set, 2).versions
    state.note_checked(plain_set.name, found)
    assert set(state.notes(plain_set.name).proofs) == {1, 2, 3}
    state.note_checked(plain_set.name, found, [1, 2])
    assert set(state.notes(plain_set.name).proofs) == {1, 2}


def test_a_scrub_goes_on_over_what_is_damaged_or_cannot_be_read(run_verb, tmp_path):
    sets = [chains.random_set(tmp_path, 2, BLOCK, base=name) for name in ("a", "b", "c")]
    (tmp_path / "a.2.gz").write_bytes(b"\x1f\x8b nothing")
    (tmp_path / "b.ver").write_text("x")
    done = run_verb("verify", "--oldest-first", tmp_path, tmp_path / "none")
    lines = done.out.splitlines()
    assert done.returncode == 14 and "b.ver does not hold" in done.err and "/none" in done.err and "a: version 2: " in done.err
    assert lines[:3] == [
        f"{sets[0].name}: version 1 is whole; DAMAGED: 2, blockdiff-verify {sets[0].name} lists what still restores",
        f"{sets[1].name}: versions 1-2 are whole",
        f"{sets[2].name}: versions 1-2 are whole",
    ]  # fmt: skip
    assert "1 versions never proved" in lines[3]
    told = json.loads(run_verb("verify", "--json", "--oldest-first", tmp_path / "none").out)
    assert told["exit_code"] == 10 and told["errors"][0]["error"] == "NoSuchSet" and told["versions"] == []


def test_scrub_of_wrong_use(run_verb, plain_set, tmp_path):
    for words in (("--to", "1", "--budget", "1h"), ("--new", "--oldest-first"), ("--budget", "7"), ("--every", "x")):
        assert run_verb("verify", *words, plain_set.name).returncode == 2, words
    assert run_verb("verify", "--oldest-first").returncode == 2
    (tmp_path / "empty").mkdir()
    assert run_verb("verify", "--oldest-first", tmp_path / "empty").returncode == 10


def test_a_scrub_that_cannot_note_what_it_found_says_so(run_verb, plain_set, tmp_path):
    (tmp_path / "state").write_text("no folder")
    done = run_verb("verify", "--oldest-first", plain_set.name)
    assert done.returncode == 3 and "cannot be written: the next run proves the same again" in done.err


def test_a_merge_notes_what_it_proved(run_verb, plain_set, tmp_path):
    """The version that it wrote, for all of whose own blocks were read; with any doubt, nothing."""
    assert run_verb("merge", plain_set.name, tmp_path / "x").returncode == 0
    told = json.loads(run_verb("verify", "--json", "--new", plain_set.name).out)
    assert [v["proved_before"] for v in told["versions"]] == [False, False, True]
    os.unlink(tmp_path / "state" / "blockdiff" / "verified" / os.listdir(tmp_path / "state/blockdiff/verified")[0])
    damage(plain_set, 3, 4 + 8)
    assert run_verb("merge", plain_set.name, tmp_path / "y").returncode == 53
    assert os.listdir(tmp_path / "state/blockdiff/verified") == []
