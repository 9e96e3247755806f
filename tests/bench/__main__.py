"""python -m tests.bench [--size 2G] [--turns 3] [--on DIR] [--growth | --archive | --use | --store | --hints] [--json]"""

import argparse
import compileall
import filecmp
import json
import os
import pathlib
import platform
import re
import shutil
import statistics
import sys
import tempfile

from . import archive, growth, hints, measure, store, use, volume
from .tools import ROOT, TOOLS

_UNITS = {"M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def place(size):
    """A folder on a tmpfs that is large enough, else where temporary files go; whether it is memory."""
    shm = "/dev/shm"
    if os.path.isdir(shm) and shutil.disk_usage(shm).free > 8 * size:
        return shm, True
    return None, False


def bounds(folder, path, sync):
    """What the machine itself needs for reading the volume and for writing it."""
    figures = {"read": measure.run(["cat", path], sync=sync)}
    if sync is None:
        measure.settle(folder, os.path.getsize(path))
    figures["copy"] = measure.run(["cp", "--sparse=never", path, folder / "copy"], sync=sync)
    os.unlink(folder / "copy")
    pool = pathlib.Path(__file__).with_name("pool.py")
    figures["MD5, isal and SHA-256"] = measure.run([sys.executable, pool, path, folder / "copy"], sync=sync)
    os.unlink(folder / "copy")
    if shutil.which("zstd"):
        figures["zstd -T0 -1"] = measure.run(["zstd", "-q", "-T0", "-1", path, "-o", folder / "copy.zst"], sync=sync)
        figures["zstd -T0 -1"]["stored"] = os.path.getsize(folder / "copy.zst")
        os.unlink(folder / "copy.zst")
    return figures


def one_turn(folder, path, size, sync):
    """Every tool once: full, incremental, restore, verify; ours also after every other block was zeroed."""
    digest = volume.make(path, size)
    tools = [tool(folder, path, sync) for tool in TOOLS if tool.there()]
    turn = {"volume": digest, "limits": bounds(folder, path, sync)}
    for tool in tools:
        turn[tool.name] = {"full": dict(tool.back_up(), stored=tool.stored())}
    volume.change(path, 1)
    for tool in tools:
        before = tool.stored()
        figures = tool.back_up()
        turn[tool.name]["incremental"] = dict(figures, stored=tool.stored() - before)
    for tool in tools:
        if not tool.restores:
            continue
        turn[tool.name]["restore"] = tool.restore()
        if not filecmp.cmp(path, tool.out, shallow=False):
            raise RuntimeError(f"{tool.name} restored something else")
        tool.out.unlink()
        verified = tool.verify()
        if verified:
            turn[tool.name]["verify"] = verified
        if not tool.zeroes:
            shutil.rmtree(tool.folder)
    volume.zero_every_other(path)
    for tool in tools:
        if tool.zeroes:
            before = tool.stored()
            figures = tool.back_up()
            turn[tool.name]["zeroed"] = dict(figures, stored=tool.stored() - before)
    for tool in tools:
        shutil.rmtree(tool.folder, ignore_errors=True)
    return turn


def machine():
    """What this was measured on, in a line."""
    model = re.search(r"^model name\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    name = model[1] if model else platform.machine()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    return f"{os.cpu_count()} cores of {name}, {memory} GiB, Linux {platform.release()}, Python {platform.python_version()}"


def median(turns, *keys):
    """The median of one figure over all turns, None where a tool has none."""
    found = []
    for turn in turns:
        value = turn
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            found.append(value)
    return statistics.median(found) if found else None


def table(turns):
    """Print medians, and how many times as fast as each other tool ours is."""
    names = [name for name in turns[0] if name not in ("limits", "volume")]
    print(machine(), f"volume {turns[0]['volume']}", sep="\n")
    works = ("full", "incremental", "restore", "verify")
    for limit in turns[0]["limits"]:
        print(f"{limit:24} {median(turns, 'limits', limit, 'wall'):8.2f} s")
    print(f"\n{'':18}" + "".join(f"{work:>34}" for work in works))
    print(f"{'':18}" + "".join(f"{'s':>8}{'cpu s':>8}{'MiB':>7}{'ours is':>11}" for _ in works))
    for name in names:
        row = f"{name:18}"
        for work in works:
            wall = median(turns, name, work, "wall")
            if wall is None:
                row += f"{'':34}"
                continue
            ours = median(turns, "blockdiff", work, "wall")
            row += f"{wall:8.2f}{median(turns, name, work, 'cpu'):8.2f}"
            row += f"{median(turns, name, work, 'memory') / 2**20:7.0f}{wall / ours:10.1f}x"
        print(row)
    print(f"\n{'':18}{'full stored MiB':>18}{'incr stored MiB':>18}{'agent cpu s full':>18}{'incr':>8}{'agent MiB':>12}")
    for name in names:
        row = f"{name:18}{median(turns, name, 'full', 'stored') / 2**20:18.1f}"
        row += f"{median(turns, name, 'incremental', 'stored') / 2**20:18.2f}"
        if median(turns, name, "full", "agent_cpu") is not None:
            row += f"{median(turns, name, 'full', 'agent_cpu'):18.2f}{median(turns, name, 'incremental', 'agent_cpu'):8.2f}"
            row += f"{median(turns, name, 'full', 'agent_memory') / 2**20:12.0f}"
        print(row)
    print(f"\n{'every other block zeroed':24}{'s':>8}{'cpu s':>8}{'stored MiB':>12}{'server MiB':>12}{'agent MiB':>12}")
    for name in names:
        if median(turns, name, "zeroed", "wall") is not None:
            wall, cpu = (median(turns, name, "zeroed", key) for key in ("wall", "cpu"))
            sizes = (median(turns, name, "zeroed", key) / 2**20 for key in ("stored", "memory", "agent_memory"))
            print(f"{name:24}{wall:8.2f}{cpu:8.2f}" + "".join(f"{size:12.1f}" for size in sizes))


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--size", default="2G", help="of the volume: 512M, 2G")
    parser.add_argument("--turns", type=int, default=3, help="how often everything is done; medians are printed")
    parser.add_argument("--on", metavar="DIR", help="measure on this folder's disk; a final sync is counted for everyone")
    parser.add_argument("--growth", action="store_true", help="measure ours alone, on larger and larger sparse volumes")
    parser.add_argument("--archive", action="store_true", help="measure what changes stored versions: ours alone")
    parser.add_argument("--use", action="store_true", help="measure an export of a version against its restore")
    parser.add_argument("--store", action="store_true", help="measure sets in an object store against rclone")
    parser.add_argument("--hints", action="store_true", help="measure hints of a thin pool against --rescan, in the lab, as root")
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")
    options = parser.parse_args()
    size = int(options.size[:-1]) * _UNITS[options.size[-1]]
    compileall.compile_dir(ROOT / "blockdiff", quiet=1)  # as an installed program has it
    parent, memory = (options.on, False) if options.on else place(size)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="blockdiff-bench-", dir=parent))
    try:
        sync = None if memory else str(folder)
        if options.growth:
            print(machine())
            figures = growth.volumes(folder) + growth.versions(folder)
            if options.json:
                print(json.dumps(figures))
            return
        chosen = [each for each in ("archive", "use", "store", "hints") if getattr(options, each)]
        if chosen:
            print(machine())
            figures = {"archive": archive, "use": use, "store": store, "hints": hints}[chosen[0]].run(folder, size)
            if options.json:
                print(json.dumps(figures))
            return
        turns = []
        for number in range(options.turns):
            print(f"turn {number + 1} of {options.turns} in {folder}", file=sys.stderr)
            turns.append(one_turn(folder, folder / "volume", size, sync))
    finally:
        shutil.rmtree(folder)
    if options.json:
        print(json.dumps(turns))
    else:
        table(turns)


if __name__ == "__main__":
    main()
