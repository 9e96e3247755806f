"""Memory is bounded by a constant, whatever the volume: measured on the real processes of real runs.

The bounds are the documented ones: 64 MiB for the agent, 128 MiB for the backup server.
"""

import os

import places
import pytest
from engine import restored
from memory import engine, measured, within_bounds

from blockdiff.sets.backupset import BackupSet

MIB, TIB = 1 << 20, 1 << 40
ROOT = places.ROOT


def backup(name, source, *options):
    """The command itself, as cron runs it."""
    return measured(ROOT / "bin" / "blockdiff-backup", *options, name, source)


def packed(name, source, **wanted):
    """As over a network: compressed on the wire."""
    return engine(name, source, pack_wire=True, **wanted)


def large_file(path):
    """A sparse file of 15 TiB, or the largest that this file system takes; returns its size."""
    with open(path, "wb") as file:
        for size in (15 * TIB, 8 * TIB - MIB, 2 * TIB - MIB, TIB, 256 << 30, 16 << 30):
            try:
                file.truncate(size)
            except OSError:
                continue
            return size
    return pytest.skip("no large sparse file can be made here")


def test_a_very_large_sparse_file(tmp_path, record_property):
    source = tmp_path / "vol"
    size = large_file(source)
    record_property("size", size)
    print(f"a sparse file of {size / TIB:g} TiB")
    with open(source, "r+b") as file:
        for place in (0, size // 2, size - 100):
            file.seek(place)
            file.write(os.urandom(100))
    within_bounds(backup(tmp_path / "set", source, "--zstd", "--block-size", 16 * MIB))
    with open(source, "r+b") as file:
        file.seek(size - 50)
        file.write(b"a change at the end")
    within_bounds(backup(tmp_path / "set", source, "--zstd"))

    sheets = [BackupSet(str(tmp_path / "set")).read_manifest(number) for number in (1, 2)]
    blocks = size // (16 * MIB)
    assert [sheet.size for sheet in sheets] == [size] * 2
    assert sheets[0].value["blocks"] == {"total": blocks, "changed": blocks, "zero": blocks - 3}
    assert sheets[1].value["blocks"] == {"total": blocks, "changed": 1, "zero": 0}
    assert sheets[0].value["bytes"]["read"] < 100 * MIB  # holes are not read


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_large_blocks_that_do_not_compress(suffix, tmp_path):
    source = tmp_path / "vol"
    with open(source, "wb") as file:
        for _ in range(8):
            file.write(os.urandom(16 * MIB))
        file.write(b"tail")
    if suffix == ".gz":
        within_bounds(backup(tmp_path / "set", source, "--block-size", 16 * MIB))
    else:
        within_bounds(packed(tmp_path / "set", source, suffix=suffix, block_size=16 * MIB))
    source.unlink()


@pytest.mark.parametrize("block_size", [1, 512])
def test_tiny_blocks(block_size, tmp_path):
    """Also with many more threads than this machine has cores."""
    source = tmp_path / "vol"
    volume = bytearray(os.urandom(150_000 if block_size == 1 else 8 * MIB))
    source.write_bytes(volume)
    within_bounds(backup(tmp_path / "set", source, "--block-size", block_size, "--jobs", 16))
    volume[::7] = b"x" * len(volume[::7])  # as many runs as can be
    source.write_bytes(volume)
    within_bounds(packed(tmp_path / "set", source, threads=16))
    assert restored(tmp_path / "set", 2, tmp_path / "out") == volume
