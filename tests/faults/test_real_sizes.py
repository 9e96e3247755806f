"""Volumes of real sizes, changed as real ones are: each version restores and verifies, in the memory that is documented.

Only `make test-long` runs it: some minutes for each kind of diff file, and ten GiB of room.
"""

import os
import random
import shutil
import subprocess

import chains
import places
import pytest
from memory import MIB, SERVER, engine, measured, within_bounds

from blockdiff.codecs import base
from blockdiff.sets.backupset import BackupSet

pytestmark = pytest.mark.long
ROOT = places.ROOT
GIB = 1 << 30
PLENTY_S = 3600
CASES = [(".gz", 65536, 2 * GIB), (".zst", 4096, GIB), (".zst", MIB - 8, 2 * GIB), ("", 16834, GIB)]
CASES += [(".lzop", 65536, GIB)] if shutil.which("lzop") else []


class Volume:
    """A file that is changed in place."""

    def __init__(self, path, block_size, size):
        self.path, self.block_size = path, block_size
        self.rng = random.Random(str(path.parent.name))
        self.file = open(path, "w+b", buffering=0)  # noqa: SIM115
        for place in range(0, size, MIB):  # a third of it text
            self.write(place, self.noise(MIB) if place // MIB % 3 else b"%015d\n" % place * (MIB // 16))

    @property
    def size(self):
        return os.fstat(self.file.fileno()).st_size

    def write(self, place, data):
        os.pwrite(self.file.fileno(), data, place)

    def noise(self, length):
        return self.rng.randbytes(length)

    def punch(self, place, length):
        subprocess.run(["fallocate", "-p", "-o", str(place), "-l", str(length), self.path], check=True)

    # what is done to it between two versions

    def alternating_zeros(self):
        for place in range(0, self.size - self.block_size, 2 * self.block_size):
            self.write(place, bytes(self.block_size))

    def trimmed(self):
        """Holes of all lengths, as fstrim leaves them where files were deleted; many are zero already."""
        place = 0
        while place < self.size - 64 * MIB:
            length = self.rng.choice((4096, 8192, 65536, 3 * 65536, MIB, 9 * MIB))
            self.punch(place, length)
            place += length + self.rng.choice((4096, 65536, MIB, 5 * MIB, 17 * MIB))

    def short_zero_runs(self):
        for place in range(0, self.size - 16 * self.block_size, 16 * self.block_size):
            many = self.rng.randrange(6)
            self.write(place, bytes(many * self.block_size) + self.noise(min(self.block_size, 600)))

    def half_blocks(self):
        half = self.block_size // 2 + 1
        for _ in range(3000):
            place = self.rng.randrange(self.size - half)
            self.write(place, self.rng.choice((bytes(half), self.noise(half))))

    def grown_by_a_hole(self):
        size = self.size
        self.file.truncate(size + 600 * MIB + 12345)
        self.write(size + 300 * MIB, self.noise(5 * MIB))

    def a_log(self):
        begin = self.rng.randrange(self.size // 2)
        for place in range(begin, begin + 200 * MIB, MIB):
            self.write(place, self.noise(MIB))

    def shrunk(self):
        self.file.truncate(self.size * 2 // 3 + 77)

    def single_holes(self):
        """Every second block a hole, and the other one zero before: nothing of it is sent."""
        for place in range(0, self.size // 2, 2 * self.block_size):
            self.punch(place, self.block_size)

    def __iter__(self):
        for change in (
            lambda: None, self.alternating_zeros, self.short_zero_runs, self.half_blocks, self.grown_by_a_hole,
            self.trimmed, self.a_log, self.single_holes, self.shrunk, self.alternating_zeros,
        ):  # fmt: skip
            change()
            yield change.__name__


@pytest.mark.parametrize("suffix, block_size, size", CASES)
def test_a_volume_that_lives(suffix, block_size, size, tmp_path):
    name, target = tmp_path / "set", tmp_path / "restored"
    volume = Volume(tmp_path / "vol", block_size, size)
    backup_set = BackupSet(str(name))
    for number, change in enumerate(volume, 1):
        print(number, change, f"{volume.size / MIB:.0f} MiB")
        within_bounds(backed_up(name, volume.path, suffix, block_size))
        for words in (["blockdiff-merge", "-q", name, target], ["blockdiff-verify", "-q", "--to", number, name]):
            peak, _ = measured(ROOT / "bin" / words[0], *words[1:], within_s=PLENTY_S)
            print(f"{words[0]} had {peak / MIB:.1f} MiB")
            assert peak < SERVER
        subprocess.run(["cmp", volume.path, target], check=True)
        target.unlink()
        if suffix in (".gz", ".zst"):
            entries = chains.spans_of(backup_set, number, block_size)
            assert max(span.length for span in entries) <= max(2 * base.MEMBER_SIZE, block_size + 8)
    volume.file.close()
    shutil.rmtree(tmp_path)


def backed_up(name, source, suffix, block_size):
    """The peaks of a backup: by the command where it can make such a diff file."""
    if suffix == ".lzop":
        return engine(name, source, suffix=suffix, block_size=block_size, within_s=PLENTY_S)
    options = ["-q", "--compress", {".gz": "gzip", ".zst": "zstd", "": "none"}[suffix], "--block-size", block_size]
    return measured(ROOT / "bin" / "blockdiff-backup", "--no-snapshot", *options, name, source, within_s=PLENTY_S)
