"""A volume given to a pipe, from its first byte to its last: the same as a restore's file, or an error."""

import os
import pathlib
import random
import shutil

import chains
import pytest
from rewrites import changed

from blockdiff import codecs, restore
from blockdiff.errors import DamagedFile, StoreUnreadable
from blockdiff.sets.backupset import BackupSet

BLOCK = 64
SUFFIXES = ["", ".gz", ".zst"] + ([".lzop"] if shutil.which("lzop") else [])


def made(folder, suffix, seed=1, versions=9, original=False):
    """A set, and the volumes of its versions by number."""
    rng, backup_set, volumes = random.Random(seed), chains.new_set(folder), {}
    volume = rng.randbytes(40 * BLOCK) + bytes(25 * BLOCK) + rng.randbytes(15 * BLOCK + 5)
    for number in range(1, versions + 1):
        chains.write_version(backup_set, volume, BLOCK, codecs.BY_SUFFIX[suffix], member=500, original=original)
        volumes[number] = volume
        volume = changed(volume, rng, BLOCK, list(volumes.values()))
    return backup_set, volumes


def streamed(backup_set, number, **options):
    parts = []
    done = restore.stream(backup_set, number, lambda data: parts.append(bytes(data)), **options)
    return done, b"".join(parts)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("seed", range(5))
def test_every_version_is_given_whole(suffix, seed, tmp_path):
    original = suffix == ".lzop" or (suffix != ".zst" and seed % 2 == 1)
    backup_set, volumes = made(tmp_path, suffix, seed, original=original)
    for number, volume in volumes.items():
        done, data = streamed(backup_set, number)
        assert done.failure is None and data == volume
        assert done.size == len(volume) == done.written + done.zeros


def test_an_empty_volume(tmp_path):
    backup_set = chains.new_set(tmp_path)
    chains.write_version(backup_set, b"", BLOCK)
    assert streamed(backup_set, 1)[1] == b""


def test_zeros_are_given_too(tmp_path):
    backup_set = chains.new_set(tmp_path)
    chains.write_version(backup_set, bytes(3 * 1024 * 1024 + 17), 4096)
    done, data = streamed(backup_set, None)
    assert data == bytes(3 * 1024 * 1024 + 17) and done.zeros == 3 * 1024 * 1024


def test_a_dry_run_gives_nothing(tmp_path):
    backup_set, _ = made(tmp_path, "", versions=2)
    done, data = streamed(backup_set, 2, dry_run=True)
    assert data == b"" and [number for number, _, _ in done.files] == [2, 1]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damage_ends_it_and_no_wrong_byte_is_given(suffix, tmp_path):
    backup_set, volumes = made(tmp_path, suffix, versions=3, original=suffix == ".lzop")
    path = pathlib.Path(backup_set.path(1, suffix))
    whole = path.read_bytes()
    failures = 0
    for place in range(4, len(whole), 97):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        done, data = streamed(backup_set, 3)
        if done.failure is None:
            assert data == volumes[3]
        else:
            failures += 1
            assert 50 <= done.exit_code < 60 and volumes[3].startswith(data)
            assert done.right_bytes == len(data) and "what came before is right" in done.failure.hint
    assert failures > 10


def test_a_block_of_which_there_is_no_record(tmp_path):
    """With force a version is skipped, and what only it had is missed."""
    backup_set = chains.new_set(tmp_path)
    volume = bytearray(os.urandom(10 * BLOCK))
    for number in range(3):
        volume[number * BLOCK : (number + 1) * BLOCK] = os.urandom(BLOCK)
        chains.write_version(backup_set, bytes(volume), BLOCK, codecs.PLAIN)
    for path in tmp_path.glob("*.2*"):
        path.unlink()
    done, data = streamed(BackupSet(backup_set.name), 3, force=True)
    assert done.exit_code >= 50 and volume.startswith(data) and len(data) < len(volume)

    (tmp_path / "other").mkdir()
    backup_set = chains.new_set(tmp_path / "other")
    chains.write_version(backup_set, bytes(volume), BLOCK, codecs.PLAIN, with_index=False)
    path = pathlib.Path(backup_set.path(1, ""))
    path.write_bytes(path.read_bytes()[: -3 * (BLOCK + 8)])
    done, data = streamed(backup_set, 1)
    assert isinstance(done.failure, DamagedFile) and data == volume[: 7 * BLOCK]


def test_a_file_that_cannot_be_read(tmp_path, monkeypatch):
    backup_set, _ = made(tmp_path, "", versions=2)
    os.unlink(backup_set.path(1, ""))
    os.mkdir(backup_set.path(1, ""))
    with pytest.raises((StoreUnreadable, DamagedFile)):
        done, _ = streamed(backup_set, 2)
        raise done.failure


def test_a_pipe_that_is_full_or_closed(tmp_path):
    backup_set, _ = made(tmp_path, "", versions=2)

    def write(data):
        raise OSError(28, os.strerror(28))

    done = restore.stream(backup_set, 2, write)
    assert done.exit_code == 36 and str(done.failure) == "writing to standard output failed: No space left on device"
