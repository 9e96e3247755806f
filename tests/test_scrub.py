"""Versions are proved alone, those whose proof is the oldest first, until the budget ends."""

import os
import pathlib
import random
import shutil

import chains
import nights
import pytest

from blockdiff import codecs, scrub, verify
from blockdiff.sets import catalogue, verified, versions
from blockdiff.sets.backupset import BackupSet

BLOCK = 64


def queue(*names, known=None):
    return scrub.units(catalogue.every(names), lambda name: verified.Notes((known or {}).get(name, {})))


def scrubbed(units, budget=None):
    """What a scrub with so many bytes finds: (set, version) to the result."""
    found = {}
    scrub.scrub(
        units,
        lambda read: budget is not None and read >= budget,
        lambda proved: found.update({(proved.unit.name, proved.unit.number): proved}),
        threads=1,
    )
    return found


def proofs(backup_set, numbers, at):
    listing = backup_set.listing()
    return {
        n: verified.of(backup_set, versions.version(backup_set, n, listing, deep=False), at + n) for n in numbers
    }


def test_what_was_never_proved_comes_first_and_then_the_oldest_proof(tmp_path):
    one, two = chains.new_set(tmp_path, "one"), chains.new_set(tmp_path, "two")
    for backup_set in (one, two):
        for _ in range(3):
            chains.write_version(backup_set, os.urandom(5 * BLOCK), BLOCK)
    known = {one.name: proofs(one, (1, 2, 3), 100), two.name: proofs(two, (1, 2), 50)}
    os.utime(one.path(2, ".gz"))  # it is not the file that was proved

    order = [(unit.name, unit.number, unit.at) for unit in queue(str(tmp_path), known=known)]

    assert {each[:2] for each in order[:2]} == {(one.name, 2), (two.name, 3)} and order[0][2] is order[1][2] is None
    assert order[2:] == [(two.name, 1, 51), (two.name, 2, 52), (one.name, 1, 101), (one.name, 3, 103)]


def test_the_budget_ends_it_between_two_versions_and_one_is_always_proved(tmp_path):
    backup_set, _ = nights.new(tmp_path / "store", 9)
    units = queue(backup_set.name)
    sizes = [unit.diff for unit in units]
    assert all(sizes)
    for budget in (0, 1, sizes[0], sizes[0] + 1, sum(sizes[:5]), sum(sizes) - 1, sum(sizes), None):
        found = list(scrubbed(units, budget).values())
        read = sum(each.read for each in found)
        assert [each.unit for each in found] == units[: len(found)] and found
        assert [each.read for each in found] == sizes[: len(found)]
        assert all(each.found.restores and each.found.earned for each in found)
        if budget is None:
            assert len(found) == 9
        else:
            assert read - sizes[len(found) - 1] < max(budget, 1) and (read >= budget or len(found) == 9)


def test_only_the_digest_files_of_its_own_and_its_parent_are_read(tmp_path):
    backup_set, _ = nights.new(tmp_path / "store", 5)
    units = queue(backup_set.name)
    os.unlink(backup_set.path(1, ".gz"))
    os.unlink(backup_set.path(2, ".md5"))
    found = {number: each.found for (_, number), each in scrubbed(units).items()}
    assert {n: f.restores for n, f in found.items()} == {1: False, 2: False, 3: False, 4: True, 5: True}
    assert found[4].earned and not found[4].faults


def sane(backup_set):
    """Whether a scrub finds nothing, and whether a verify of everything does."""
    found = scrubbed(queue(backup_set.name))
    whole = verify.verify(backup_set)
    return (
        {n: each.found.restores and not each.found.faults for (_, n), each in found.items()},
        {v.number: v.restores and not v.faults for v in whole.versions},
    )


@pytest.mark.parametrize("seed", range(6))
def test_a_scrub_of_all_versions_finds_what_a_verify_finds(seed, tmp_path):
    """Flip or cut anything of a set: if all versions are whole alone, they all restore, and the other way round."""
    rng = random.Random(seed)
    codec = (codecs.GZIP, codecs.ZSTD, codecs.PLAIN)[seed % 3]
    backup_set, _ = nights.new(tmp_path / "whole", 5, codec=codec, fulls=(1, 4))
    files = sorted(path for path in pathlib.Path(backup_set.folder).iterdir() if ".ver" not in path.name)
    alone, all_ = sane(backup_set)
    assert alone == all_ and all(alone.values())
    for place in range(30):
        folder = tmp_path / f"{place}"
        shutil.copytree(backup_set.folder, folder)
        path = folder / rng.choice(files).name
        data = bytearray(path.read_bytes())
        if not data:
            continue
        if rng.random() < 0.2:
            del data[rng.randrange(len(data)) :]
        else:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        alone, all_ = sane(BackupSet(str(folder / backup_set.base)))
        assert all(alone.values()) == all(all_.values()), path.name
        assert {n for n, good in all_.items() if not good} >= {n for n, good in alone.items() if not good}, path.name


def test_a_version_that_was_removed_meanwhile_is_left_out_and_a_set_that_vanished_is_reported_once(tmp_path):
    one, two = chains.new_set(tmp_path, "one"), chains.new_set(tmp_path, "two")
    for backup_set in (one, two):
        for number in range(3):
            chains.write_version(backup_set, os.urandom(5 * BLOCK), BLOCK, full=number == 1)
    units = queue(str(tmp_path))
    for name in os.listdir(tmp_path):
        if name.startswith(("one.", "two.1.")):
            os.unlink(tmp_path / name)
    found = scrubbed(units)
    assert [(os.path.basename(name), number) for name, number in found] == [("one", 1), ("two", 2), ("two", 3)]
    assert found[one.name, 1].found.unknown and found[one.name, 1].found.faults[0].exit_code == 10
    assert found[two.name, 3].found.restores
