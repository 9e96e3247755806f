"""Pruning a set: what stays is what it was, what cannot be proved stops it, what does not pay is held."""

import datetime
import os
import pathlib
import shutil
from dataclasses import replace

import chains
import nights
import original
import places
import pytest
from nights import BLOCK, check, new, numbers, planned, pruned, state

from blockdiff import codecs, restore, verify
from blockdiff.errors import BlockdiffError, ForeignFiles, NoSuchVersion, SetChanged
from blockdiff.formats import digestfile, names
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.retention import parse_span

RULES = {"daily": 3, "weekly": 3}
STAY = [1, 7, 14, 15, 16, 17]


def test_what_stays_is_bit_for_bit_what_it_was(tmp_path):
    backup_set, volumes = new(tmp_path / "set", 17)
    before = state(tmp_path / "set")

    done = pruned(backup_set, daily=3, weekly=3, monthly=2)

    assert (done.stay, done.go, done.held, done.exit_code) == (6, 11, 0, 0)
    assert check(backup_set, volumes, tmp_path) == [4, 7, 14, 15, 16, 17]
    after = state(tmp_path / "set")
    for name, found in after.items():
        if name.endswith((".md5", ".xxh128", ".ver")):
            assert found == before[name], name
    assert {int(name.split(".")[1]) for name in after if name != "vol.ver"} == {4, 7, 14, 15, 16, 17}
    assert verify.verify(backup_set).exit_code == 0
    freed = sum(len(row[2]) for row in before.values()) - sum(len(row[2]) for row in after.values())
    assert abs(freed - done.frees) < 1500 and done.writes <= 4 * done.frees  # manifests and indexes differ by a bit
    for number in numbers(backup_set):
        assert original.merged(backup_set.name, number) == volumes[number]


def test_a_second_prune_changes_nothing(tmp_path):
    backup_set, _ = new(tmp_path / "set", 17)
    pruned(backup_set, **RULES)
    before = state(tmp_path / "set")
    done = pruned(backup_set, **RULES)
    assert (done.go, done.held, done.proved) == (0, 0, 0) and state(tmp_path / "set") == before


def test_a_plan_says_what_a_prune_does_and_writes_nothing(tmp_path):
    backup_set, _ = new(tmp_path / "set", 17)
    before = state(tmp_path / "set")

    plan = planned(backup_set, **RULES)

    assert state(tmp_path / "set") == before and not os.path.exists(backup_set.name + ".lock")
    done = pruned(backup_set, **RULES)
    assert plan.rows == done.rows
    assert [(row.first, row.last, row.plan, row.why) for row in done.rows][:5] == [
        (1, 1, "go", "into 7"), (2, 6, "go", "with 1"), (7, 7, "stay", "week 3; made a full"),
        (8, 13, "go", "into 14"), (14, 14, "stay", "week 2; rewritten onto 7"),
    ]  # fmt: skip
    assert abs(plan.writes - done.writes) < done.writes / 4


def test_the_next_backup_continues(tmp_path):
    backup_set, volumes = new(tmp_path / "set", 17)
    pruned(backup_set, last=1)
    volumes = nights.write(backup_set, 2, volumes)
    assert check(backup_set, volumes, tmp_path) == [17, 18, 19]
    assert verify.verify(backup_set).exit_code == 0
    pruned(backup_set, last=1)
    assert check(backup_set, volumes, tmp_path) == [19]


@pytest.mark.parametrize("suffix", [".gz", ".md5", ".json"])
@pytest.mark.parametrize("number", [1, 7, 14, 15, 16, 17])
def test_one_byte_that_is_wrong_in_what_stays_stops_everything(number, suffix, tmp_path):
    backup_set, _ = new(tmp_path / "set", 17, fulls=(15,))
    rules = {"daily": 3, "weekly": 3, "yearly": 2}
    assert [row.first for row in planned(backup_set, **rules).rows if row.plan == "stay"] == STAY
    path = pathlib.Path(backup_set.path(number, suffix))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    before = state(tmp_path / "set")

    with pytest.raises(BlockdiffError) as caught:
        pruned(backup_set, **rules)

    assert caught.value.exit_code in (50, 51, 52, 53) and caught.value.hint
    assert state(tmp_path / "set") == before


def test_damage_of_what_goes_anyway_and_is_not_needed_stops_nothing(tmp_path):
    backup_set, volumes = new(tmp_path / "set", 17, fulls=(12,))
    with open(backup_set.path(3, ".json"), "ab") as file:
        file.write(b"x")
    pruned(backup_set, last=3)
    assert check(backup_set, volumes, tmp_path) == [15, 16, 17]


def test_damage_of_what_must_be_read_to_rewrite_stops_it(tmp_path):
    backup_set, _ = new(tmp_path / "set", 6)
    os.truncate(backup_set.path(3, ".gz"), backup_set.size(3, ".gz") - 20)
    before = state(tmp_path / "set")
    with pytest.raises(BlockdiffError) as caught:
        pruned(backup_set, last=2)
    assert caught.value.exit_code == 51 and state(tmp_path / "set") == before


def test_what_was_proved_not_long_ago_is_not_read_again(tmp_path):
    backup_set, _ = new(tmp_path / "set", 9)
    proofs = dict(verify.verify(backup_set).proofs)
    assert pruned(backup_set, proofs, last=8).proved == 0
    now = datetime.datetime.now(datetime.UTC)
    assert pruned(backup_set, proofs, last=7, now=now + datetime.timedelta(days=34)).proved == 0
    proofs = {n: replace(proof, at=proof.at - 36 * 86400) for n, proof in proofs.items()}
    assert pruned(backup_set, proofs, last=6).proved == 6
    assert pruned(backup_set, proofs, last=5).proved == 0
    os.utime(backup_set.path(9, ".gz"))
    assert pruned(backup_set, proofs, last=4).proved == 1
    assert pruned(backup_set, {n: replace(p, at=p.at + 86400) for n, p in proofs.items()}, last=3).proved > 0


def test_a_rewritten_version_is_noted_as_proved(tmp_path):
    backup_set, _ = new(tmp_path / "set", 9)
    proofs = {}
    pruned(backup_set, proofs, last=2)
    assert not [v.number for v in verify.verify(backup_set, known=proofs).versions if not v.before]


def test_a_budget_that_ends_while_proving_removes_nothing_and_the_next_run_goes_on(tmp_path):
    backup_set, volumes = new(tmp_path / "set", 9)
    before, proofs = state(tmp_path / "set"), {}
    runs = 0
    while True:
        done = pruned(backup_set, proofs, last=2, over=lambda read: read > 0)
        runs += 1
        if done.go:
            break
        assert done.exit_code == 3 and "budget" in done.warnings[0] and done.held == 7
        assert state(tmp_path / "set") == before and {row.why for row in done.rows if row.plan == "held"} == {
            "not done yet"
        } | ({"with 1"} if done.rows[1].why == "with 1" else set())
    assert runs == 10 and check(backup_set, volumes, tmp_path) == [8, 9]


def test_nothing_goes_if_not_all_that_stays_was_looked_at(tmp_path):
    backup_set, _ = new(tmp_path / "set", 9)
    answers = iter([False, True])
    done = pruned(backup_set, last=2, over=lambda read: next(answers, False))
    assert (done.exit_code, done.go) == (3, 0) and len(numbers(backup_set)) == 9


def test_a_budget_that_ends_between_two_groups(tmp_path):
    backup_set, volumes = new(tmp_path / "set", 10, fulls=(4, 8))
    proofs = dict(verify.verify(backup_set).proofs)
    asked = []  # three times for the proofs of 8 to 10, then before each of three groups
    done = pruned(backup_set, proofs, last=1, over=lambda read: asked.append(read) or len(asked) > 5)
    assert (done.exit_code, done.go, done.held) == (3, 7, 2) and numbers(backup_set) == [8, 9, 10]
    pruned(backup_set, proofs, last=1)
    assert check(backup_set, volumes, tmp_path) == [10]


def test_what_a_person_keeps_stays(tmp_path):
    backup_set, volumes = new(tmp_path / "set", 9)
    open(backup_set.name + ".4.keep", "x").close()
    pruned(backup_set, last=1, numbers=frozenset({6}))
    assert check(backup_set, volumes, tmp_path) == [4, 6, 9]
    with pytest.raises(NoSuchVersion):
        pruned(backup_set, last=1, numbers=frozenset({5}))


def test_one_that_a_person_keeps_stays_with_all_that_it_needs_also_if_it_is_damaged(tmp_path):
    backup_set, volumes = new(tmp_path / "set", 9, fulls=(7,))
    open(backup_set.name + ".4.keep", "x").close()
    sheet = pathlib.Path(backup_set.path(4, ".json"))
    whole = sheet.read_bytes()
    with open(backup_set.path(4, ".json"), "ab") as file:
        file.write(b"x")
    pruned(backup_set, last=1)
    assert numbers(backup_set) == [3, 4, 9]
    sheet.write_bytes(whole)
    assert check(backup_set, volumes, tmp_path) == [3, 4, 9]


def test_one_that_a_person_keeps_meanwhile_stays(tmp_path):
    backup_set, volumes = new(tmp_path / "set", 9)
    path = backup_set.name + ".4.keep"
    pruned(backup_set, last=1, seen=lambda: open(path, "a").close())
    assert check(backup_set, volumes, tmp_path) == [4, 9]


def test_a_set_that_changes_meanwhile_is_looked_at_once_more(tmp_path):
    backup_set, volumes = new(tmp_path / "set", 9)
    before = sorted(state(tmp_path / "set"))
    calls = []

    def once():
        if not calls:
            os.utime(backup_set.path(5, ".json"))
        calls.append(1)

    pruned(backup_set, last=7, seen=once)
    assert len(calls) == 2 and check(backup_set, volumes, tmp_path) == list(range(3, 10))
    before = state(tmp_path / "set").keys()
    with pytest.raises(SetChanged):
        pruned(backup_set, last=2, seen=lambda: os.utime(backup_set.path(5, ".json")))
    assert state(tmp_path / "set").keys() == before, "nothing is left of its drafts"


def test_what_another_run_removes_while_it_is_proved_is_no_fault(tmp_path):
    backup_set, volumes = new(tmp_path / "set", 9)

    def other():
        if numbers(backup_set) == list(range(1, 10)):
            pruned(backup_set, last=1)

    done = pruned(backup_set, last=7, seen=other)
    assert done.failure is None and check(backup_set, volumes, tmp_path) == [9]


def test_one_that_a_person_keeps_between_two_groups_stays(tmp_path):
    backup_set, volumes = new(tmp_path / "set", 10, fulls=(4, 8))

    class Proofs(dict):
        def update(self, found):
            super().update(found)
            if len(numbers(backup_set)) < 10:
                open(backup_set.name + ".4.keep", "a").close()

    done = pruned(backup_set, Proofs(), last=1)
    assert isinstance(done.failure, SetChanged) and done.go == 3, done.failure
    pruned(backup_set, last=1)
    assert check(backup_set, volumes, tmp_path) == [4, 10]


def test_what_turns_out_not_to_pay_is_held(tmp_path):
    """Version 2 is small, and 3 has all its blocks: what it takes without 2 was thought to be half of both."""
    backup_set, rest, volumes = chains.new_set(tmp_path), os.urandom(40 * 1024), {}
    for number, content in enumerate((os.urandom(40 * 1024), bytes(40 * 1024), os.urandom(40 * 1024)), 1):
        volumes[number] = content + rest
        chains.write_version(backup_set, volumes[number], 1024, begun=nights.begun(number))
    rules = {"last": 1, "numbers": frozenset({1})}
    before = state(tmp_path)
    assert planned(backup_set, **rules).go == 1

    done = pruned(backup_set, **rules)

    assert (done.go, done.held) == (0, 1) and state(tmp_path) == before
    (row,) = [row for row in done.rows if row.plan == "held"]
    assert row.writes > 40 * 1024 and row.frees * 4 < row.writes
    assert pruned(backup_set, exact=True, **rules).go == 1
    assert check(backup_set, volumes, tmp_path) == [1, 3]


@pytest.mark.parametrize("rules", [{"daily": 2}, {"within": parse_span("3d")}], ids=["daily", "within"])
@pytest.mark.parametrize("how", ["backwards", "ahead"])
def test_times_that_are_of_no_use(how, rules, tmp_path):
    backup_set, volumes = new(tmp_path / "set", 5)
    year = {"backwards": "2000", "ahead": "9999"}[how]
    volumes[6] = volumes[5] + b"more"
    chains.write_version(backup_set, volumes[6], BLOCK, begun=f"{year}-01-01T00:00:00Z")
    before = state(tmp_path / "set")
    with pytest.raises(ForeignFiles, match="the times of its versions are of no use") as caught:
        pruned(backup_set, **rules)
    assert "--keep-last" in caught.value.hint and state(tmp_path / "set") == before
    pruned(backup_set, last=2)
    assert check(backup_set, volumes, tmp_path) == [5, 6]


def test_versions_of_the_original_that_were_copied_have_no_times(tmp_path):
    backup_set = chains.new_set(tmp_path)
    for _ in range(3):
        chains.write_version(backup_set, os.urandom(4 * BLOCK), BLOCK, original=True)
    for number in range(1, 4):
        os.utime(backup_set.path(number, ".md5"), (10**9, 10**9))
    with pytest.raises(ForeignFiles, match="they were copied"):
        pruned(backup_set, daily=1)
    pruned(backup_set, last=1)
    assert numbers(backup_set) == [3]


def test_files_that_are_not_ours_stop_it(tmp_path):
    backup_set, _ = new(tmp_path / "set", 5)
    os.rename(backup_set.name + ".ver", tmp_path / "ver")
    with pytest.raises(ForeignFiles):
        pruned(backup_set, last=1)
    os.rename(tmp_path / "ver", backup_set.name + ".ver")
    shutil.copy(backup_set.path(5, ".gz"), backup_set.path(9, ".gz"))
    with pytest.raises(ForeignFiles):
        pruned(backup_set, last=1)
    assert numbers(backup_set) == [1, 2, 3, 4, 5, 9]


def test_a_chain_that_is_elsewhere_in_part_stays(tmp_path):
    backup_set, _ = new(tmp_path / "set", 9, fulls=(5,))
    os.rename(backup_set.path(1, ".gz"), tmp_path / "tape")
    done = pruned(backup_set, last=1)
    assert numbers(backup_set) == [1, 2, 3, 4, 9]
    assert {row.why for row in done.rows if row.first < 5} == {"the diff file of version 1 is not here"}
    os.rename(tmp_path / "tape", backup_set.path(1, ".gz"))
    pruned(backup_set, last=1)
    assert numbers(backup_set) == [9]


def test_a_newest_version_that_does_not_restore_stops_it(tmp_path):
    backup_set, _ = new(tmp_path / "set", 9, fulls=(5,))
    os.rename(backup_set.path(5, ".gz"), tmp_path / "tape")
    before = state(tmp_path / "set")
    with pytest.raises(BlockdiffError) as caught:
        pruned(backup_set, last=1)
    assert caught.value.exit_code == 51 and state(tmp_path / "set") == before


def test_files_of_other_sets_are_not_touched(tmp_path):
    folder = tmp_path / "set"
    backup_set, _ = new(folder, 12, base="db")
    new(folder, 3, base="db.11", seed=4)
    for name in ("db.2024.tar", "db.3.gz.bak", "db.1.keep.old", "db.011.gz", "dbx.1.gz", "db.99.iso"):
        (folder / name).write_text("theirs")
    theirs = {name: row for name, row in state(folder).items() if names.owner(name, ["db"]) is None}
    assert len(theirs) > 20

    pruned(backup_set, last=1)

    left = state(folder)
    assert numbers(backup_set) == [12] and {name: left[name] for name in theirs} == theirs


@pytest.mark.parametrize("stay", [[], [1]], ids=["prefix", "gap"])
@pytest.mark.parametrize("chain", ["empty", "grow", "lzop", "odd", "raw", "shrink"])
def test_sets_of_the_original(chain, stay, tmp_path):
    """The program of 2010 restores what is left, and its next version continues it."""
    if chain == "lzop" and shutil.which("lzop") is None:
        pytest.skip("lzop is not installed")
    folder = tmp_path / "set"
    shutil.copytree(places.GOLDEN / chain, folder)
    backup_set = BackupSet(str(folder / chain))
    newest = backup_set.newest()
    volumes = {number: restored(backup_set, number, tmp_path) for number in numbers(backup_set)}
    codec = codecs.BY_SUFFIX[backup_set.listing().diffs(newest)[0]]
    block_size = digestfile.decode_header(pathlib.Path(backup_set.path(1, ".md5")).read_bytes()[:4])

    pruned(backup_set, exact=True, last=1, numbers=frozenset(stay))

    assert check(backup_set, volumes, tmp_path) == [*stay, newest]
    assert verify.verify(backup_set).exit_code == 0
    volumes[newest + 1] = volumes[newest][:-1] + b"!more"
    chains.write_version(backup_set, volumes[newest + 1], block_size, codec, original=True)
    assert check(backup_set, volumes, tmp_path) == [*stay, newest, newest + 1]
    for number in (*stay, newest, newest + 1):
        merged = original.merged(backup_set.name, number)
        assert merged[: len(volumes[number])] == volumes[number], "its target never gets shorter"


def restored(backup_set, number, folder):
    target = folder / "one"
    assert restore.restore(backup_set, number, str(target)).failure is None
    data = target.read_bytes()
    target.unlink()
    return data
