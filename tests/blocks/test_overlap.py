"""How many of the changed blocks are the same, from whole digest files and from samples of larger ones."""

import os
import random

import chains
import pytest

from blockdiff.blocks import overlap
from blockdiff.errors import MissingFile

BLOCK = 16


def made(tmp_path, volumes):
    backup_set = chains.new_set(tmp_path)
    for volume in volumes:
        chains.write_version(backup_set, volume, BLOCK)
    return backup_set


def edited(volume, blocks):
    out = bytearray(volume)
    for block in blocks:
        out[block * BLOCK : (block + 1) * BLOCK] = os.urandom(BLOCK)
    return bytes(out)


def test_small_volumes_are_looked_at_whole(tmp_path):
    first = os.urandom(100 * BLOCK)
    same = edited(edited(first, range(10)), range(10))
    volumes = [first, edited(first, range(10)), same, edited(same, range(20, 30)), edited(same, [99])[:-1]]
    backup_set = made(tmp_path, volumes)
    assert overlap.share(backup_set, 1, [2, 3]) == 0.5
    assert overlap.share(backup_set, 1, [2]) == 1.0
    assert overlap.share(backup_set, 1, [2, 3, 4]) == 20 / 30
    assert overlap.share(backup_set, None, [1, 2, 3]) == 100 / 120


def test_a_volume_that_grew_or_shrank_or_did_not_change(tmp_path):
    first = os.urandom(50 * BLOCK)
    backup_set = made(tmp_path, [first, first, first + os.urandom(50 * BLOCK), first[: 10 * BLOCK], b""])
    assert overlap.share(backup_set, 1, [2]) == 1.0
    assert overlap.share(backup_set, 1, [2, 3]) == 1.0
    assert overlap.share(backup_set, None, [1, 2, 3, 4]) == 1.0, "what the last one does not have is left out"
    assert overlap.share(backup_set, 4, [5]) == 1.0


@pytest.mark.parametrize("window", [1, 16])
def test_samples_come_close(window, tmp_path, monkeypatch):
    monkeypatch.setattr(overlap, "_WINDOW", window)
    choose = random.Random(5)
    volumes = [os.urandom(4000 * BLOCK)]
    for _ in range(4):
        volumes.append(edited(volumes[-1], choose.sample(range(4000), 2000)))
    found = overlap.share(made(tmp_path, volumes), 1, [2, 3, 4, 5])
    exact = 1 - 0.5**4
    assert abs(found - exact / 2) < (0.1 if window == 1 else 0.05)


def test_samples_meet_a_log_that_is_a_fiftieth_of_the_volume(tmp_path):
    """Most changes of a month are in one place, and seldom where a few large samples are."""
    choose = random.Random(6)
    volumes = [os.urandom(8192 * BLOCK)]
    for _ in range(20):
        log = choose.sample(range(2730, 2894), 70)
        volumes.append(edited(volumes[-1], {*log, *choose.sample(range(8192), 12)}))
    found = overlap.share(made(tmp_path, volumes), 1, list(range(2, 22)))
    assert abs(found - (164 + 20 * 12) / (20 * 82)) < 0.1


def test_a_digest_file_that_is_gone(tmp_path):
    backup_set = made(tmp_path, [os.urandom(100), os.urandom(100)])
    os.unlink(backup_set.path(1, ".md5"))
    with pytest.raises(MissingFile):
        overlap.share(backup_set, 1, [2])
