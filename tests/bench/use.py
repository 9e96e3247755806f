"""A version used without restoring it: read as a whole by nbdcopy, against a restore and a raw file; and one block.

What bounds nbdcopy is CPU time: on two cores a restore fills both, as nbdcopy does.  Beside the decompressing
and the MD5s that both need, a byte of the export is copied, sent, received and searched for zeros: that is
a third of what a restore takes, and no reading ahead can hide it.
"""

import os
import pathlib
import shutil
import statistics
import subprocess
import sys

from . import host, volume
from .tools import Ours

_TURNS = 3
_COLD = 200  # reads
_READ = 4096  # bytes
# reads at random places, one after the other, of an export: the first of each member decompresses it
_CLIENT = """
import random, sys, time
sys.path[0] = sys.argv[1]
from blockdiff.blocks import image, storedblocks
from blockdiff.sets.backupset import BackupSet
choose, count, length = random.Random(1), int(sys.argv[3]), int(sys.argv[4])
inflated, inner = [], storedblocks.StoredBlocks._decompress
def timed(*arguments):
    begun = time.perf_counter()
    try:
        return inner(*arguments)
    finally:
        inflated.append(time.perf_counter() - begun)
storedblocks.StoredBlocks._decompress = timed
with image.opened(BackupSet(sys.argv[2]), None, 0) as found:
    read = []
    for _ in range(count):
        place = choose.randrange(found.size - length)
        begun = time.perf_counter()
        found.read(place, length)
        read.append(time.perf_counter() - begun)
print(sorted(read)[count // 2], sorted(inflated)[len(inflated) // 2])
"""


def run(folder: pathlib.Path, size: int) -> dict[str, dict]:
    """Print the figures as they are measured; returns them.  Each is the median of several turns, done in turns."""
    path = folder / "volume"
    volume.make(path, size)
    tool = Ours(folder, path, None)
    tool.back_up()
    for turn in (1, 2, 3):
        volume.change(path, turn)
        tool.back_up()
    name, out = tool.folder / "set", folder / "out"
    copy = f'nbdcopy "$BLOCKDIFF_URI" {out}'
    ways = {
        "blockdiff-merge": [*tool.command("blockdiff-merge"), "-q", name, out],
        "nbdcopy of the export": [*tool.command("blockdiff-nbd"), name, "--", "sh", "-c", copy],
        "nbdcopy of a raw file": ["nbdkit", "-U", "-", "file", path, "--run", f'nbdcopy "$uri" {out}'],
        "command to first byte": [
            *tool.command("blockdiff-nbd"), name, "--", "sh", "-c", 'nbdinfo --size "$BLOCKDIFF_URI"',
        ],
    }  # fmt: skip
    figures: dict[str, list[dict]] = {way: [] for way in ways}
    for _ in range(_TURNS):
        for way, words in ways.items():
            figures[way].append(tool.measured(*words))
            if out.exists():
                out.unlink()
    found = {
        way: {key: statistics.median(each[key] for each in rows) for key in ("wall", "cpu")}
        for way, rows in figures.items()
    }
    print(f"\na version of {size >> 20} MiB, four in its chain, 1 % of the blocks changed in each")
    merge = found["blockdiff-merge"]
    for way, each in found.items():
        wall, cpu = each["wall"], each["cpu"]
        print(f"{way:24}{wall:8.2f} s{wall / merge['wall']:7.2f}x{cpu:8.2f} cpu s{cpu / merge['cpu']:7.2f}x")
    words = [sys.executable, "-c", _CLIENT, str(pathlib.Path(__file__).parents[2]), name, str(_COLD), str(_READ)]
    read, inflated = map(float, subprocess.run(words, check=True, capture_output=True, text=True).stdout.split())
    found["a cold read of 4 KiB"], found["decompressing a member"] = {"wall": read}, {"wall": inflated}
    for way in ("a cold read of 4 KiB", "decompressing a member"):
        print(f"{way:24}{found[way]['wall'] * 1000:8.2f} ms{found[way]['wall'] / inflated:6.2f}x")
    shutil.rmtree(tool.folder)
    os.unlink(path)
    found.update(host.run(folder, size))
    return found
