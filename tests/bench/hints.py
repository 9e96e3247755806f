"""Hints of a thin pool, in the lab: bytes read, wall and CPU time against --rescan of the same volume.

A kernel in user mode starts a program of LVM in a tenth of a second and is slow with every system call,
so that what does not grow with the volume weighs more here than on a real host: about 2.4 s.
"""

import json
import pathlib
import random
import re
import statistics

from . import measure
from .tools import ROOT

_TURNS = 3
_CHUNK = 64 << 10  # bytes
_WAYS = {"by hints": (), "--rescan": ("--rescan",)}
_PATH = "/dev/vg0/thin"
# Each chunk is allocated by one page of zeros, which needs room; a changed chunk begins with a page of random bytes.
_WRITE = """
import os, sys
file = os.open(sys.argv[1], os.O_WRONLY)
for number, index in enumerate(map(int, sys.stdin), 1):
    os.pwrite(file, os.urandom(4096) if sys.argv[2] == "random" else bytes(4096), index * 65536)
    if number % 4096 == 0:
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
os.fsync(file)
"""


def run(folder: pathlib.Path, size: int) -> dict[str, dict]:
    """Print the figures as they are measured; returns them.  Each is the median of several turns, done in turns."""
    from tests.lab import guest as lab

    lab.DISKS["ubdb"] = f"{(size >> 20) * 3 // 2 + 1024}M"  # a pool that is more than 80 % full has no base
    guest = lab.Guest()
    try:
        guest.open()
        return _measure(guest, folder, size)
    finally:
        guest.close()


def _measure(guest, folder, size):
    mib, chunks = size >> 20, size // _CHUNK
    guest.run(f"lvcreate -qq -y -l 90%VG --chunksize 64k -T vg0/pool && lvcreate -qq -y -V {mib}M -T vg0/pool -n thin")
    _write(guest, "zeros", range(chunks))
    _back_up(guest, folder)
    chance = random.Random(size)
    figures: dict[str, list[dict]] = {way: [] for way in _WAYS}
    for turn in range(_TURNS):
        for way in sorted(_WAYS, reverse=turn % 2 == 1):
            _write(guest, "random", chance.sample(range(chunks), chunks // 100))
            figures[way].append(_back_up(guest, folder, *_WAYS[way]))
    names = ("wall", "agent_cpu", "server_cpu", "read")
    found = {way: {name: statistics.median(row[name] for row in rows) for name in names} for way, rows in figures.items()}
    print(f"\na thin volume of {mib / 1024:g} GiB, 1 % of its blocks changed, in the lab")
    for way, row in found.items():
        ratios = (row[name] / found["--rescan"][name] for name in names)
        print(f"{way:12}" + "".join(f"{name:>12} {row[name]:.4g} ({ratio:.3f})" for name, ratio in zip(names, ratios, strict=True)))
    return found


def _write(guest, what, indexes):
    guest.run("cat > /tmp/write.py", input=_WRITE)
    guest.run(f"python3 -S /tmp/write.py {_PATH} {what}", input="\n".join(map(str, indexes)), timeout=3600)


def _back_up(guest, folder, *options):
    """Return the figures of a run, which began with nothing of the volume in the guest's memory."""
    name, file = folder / "set", "/tmp/figures"
    guest.run("echo 3 > /proc/sys/vm/drop_caches")
    figures = measure.run(
        [*guest.netns, ROOT / "bin" / "blockdiff-backup", "-q", "--hints", *options, name, f"root@db00:{_PATH}"],
        environment={
            "BLOCKDIFF_SSH_CONFIG": "",
            "SSH_BLOCKDIFF_PREFIX": f"sh {guest.checkout}/tests/bench/times.sh {file}",
        },
    )
    version = int(pathlib.Path(f"{name}.ver").read_text())
    manifest = json.loads(pathlib.Path(f"{name}.{version}.json").read_text())
    expected = {"": "mappings" if version == 1 else "thin_delta", "--rescan": None}["".join(options)]
    if (manifest.get("hint") or {}).get("method") != expected:
        raise RuntimeError(f"version {version} was read by {manifest.get('hint')}")
    spent = re.findall(r"([0-9]+)m([0-9.]+)s", guest.run(f"tail -n 1 {file}"))  # in user mode, and in the kernel
    return {
        "wall": figures["wall"],
        "server_cpu": figures["cpu"],
        "agent_cpu": sum(60 * int(minutes) + float(seconds) for minutes, seconds in spent),
        "read": manifest["bytes"]["read"],
    }
