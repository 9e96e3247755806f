"""What changed where, against a comparison of the volumes themselves."""

import os
import random

import chains
import pytest

from blockdiff.blocks import changemap
from blockdiff.sets import catalogue
from blockdiff.sets.backupset import BackupSet

BLOCK = 16


def found(backup_set, most=30):
    entries = catalogue.describe(BackupSet(backup_set.name)).versions
    return changemap.change_map(backup_set, entries, most)


@pytest.mark.parametrize("window", [1, 7, 16384])
def test_random_histories(window, tmp_path, monkeypatch):
    monkeypatch.setattr(changemap, "_WINDOW", window)
    choose = random.Random(window)
    backup_set = chains.new_set(tmp_path)
    volumes = []
    volume = [choose.randbytes(BLOCK) for _ in range(700)]
    for _ in range(9):
        for _ in range(choose.randrange(40)):
            volume[choose.randrange(len(volume))] = choose.randbytes(BLOCK)
        del volume[choose.randrange(500, 1000) :]
        volume += [choose.randbytes(BLOCK) for _ in range(choose.randrange(200))]
        volumes.append(list(volume))
        chains.write_version(backup_set, b"".join(volume), BLOCK, full=choose.random() < 0.3)

    made = found(backup_set)

    most = max(map(len, volumes))
    assert (made.blocks, made.block_size, [row.number for row in made.rows]) == (most, BLOCK, [*range(2, 10)])
    for row in made.rows:
        before, after = volumes[row.number - 2], volumes[row.number - 1]
        changed = [i for i, block in enumerate(after) if i >= len(before) or before[i] != block]
        parts = [[] for _ in range(256)]
        for i in range(len(after)):
            parts[i * 256 // most].append(i in changed)
        assert (row.changed, row.blocks) == (len(changed), len(after))
        assert row.parts == pytest.approx([sum(part) / len(part) if part else None for part in parts])


def test_a_volume_of_fewer_blocks_has_a_part_for_each(tmp_path):
    backup_set = chains.new_set(tmp_path)
    for volume in (b"abc", b"aXc", b"aXc"):
        chains.write_version(backup_set, volume, 1 << 4)
    assert [row.parts for row in found(backup_set).rows] == [(1.0,), (0.0,)]


def test_the_newest_versions_only_and_each_digest_file_once(tmp_path, monkeypatch):
    backup_set = chains.random_set(tmp_path, 9, BLOCK, blocks=100)
    read, real = {}, os.pread

    def pread(fd, size, place):
        data = real(fd, size, place)
        path = os.readlink(f"/proc/self/fd/{fd}")
        if size > 4:
            read[path] = read.get(path, 0) + len(data)
        return data

    entries = catalogue.describe(backup_set).versions
    monkeypatch.setattr(os, "pread", pread)
    made = changemap.change_map(backup_set, entries, 3)
    assert [row.number for row in made.rows] == [7, 8, 9]
    assert read == {backup_set.path(number, ".md5"): 1600 for number in (6, 7, 8, 9)}
    assert changemap.change_map(backup_set, entries, 0) is None and len(read) == 4


def test_what_cannot_be_compared_is_left_out(tmp_path):
    backup_set = chains.random_set(tmp_path, 5, BLOCK)
    entries = catalogue.describe(backup_set).versions
    os.unlink(backup_set.path(3, ".md5"))
    assert [row.number for row in changemap.change_map(backup_set, entries, 30).rows] == [2, 4, 5]
    assert changemap.change_map(backup_set, entries[:1], 30) is None
    os.truncate(backup_set.path(5, ".md5"), 3)  # then neither its blocks nor their size are known
    assert [row.number for row in found(backup_set).rows] == [2, 4]
    chains.write_version(chains.new_set(tmp_path, "other"), b"x" * 64, BLOCK)
    other = chains.new_set(tmp_path, "other")
    chains.write_version(other, b"y" * 64, 32, full=True)
    assert found(other) is None  # of another block size
