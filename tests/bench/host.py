"""A restore to a host, over sshd on the loopback: nothing differs, some blocks do, all do; against a backup of the same."""

import os
import pathlib
import shutil
import statistics

from . import volume
from .tools import OursSsh

_TURNS = 5


def run(folder: pathlib.Path, size: int) -> dict[str, dict]:
    """Print the figures as they are measured; returns them.  Each is the median of several turns, done in turns."""
    path = folder / "volume"
    volume.make(path, size)
    tool = OursSsh(folder, path, None)
    tool.back_up()
    volume.change(path, 1)
    tool.back_up()
    whole, target = folder / "whole", tool.source()
    shutil.copy(path, whole)
    merge = [*tool.command("blockdiff-merge"), "-q", "--force", tool.folder / "set", target]

    def restore() -> dict:
        return tool.measured(*merge, environment=tool.environment)

    ways = ("incremental backup, nothing changed", "restore, nothing differs", "restore, 1 % differs", "restore onto zeros")
    figures: dict[str, list[dict]] = {way: [] for way in ways}
    for turn in range(_TURNS):
        figures[ways[0]].append(tool.back_up())
        figures[ways[1]].append(restore())
        volume.change(path, turn + 2)
        figures[ways[2]].append(restore())
        os.truncate(path, 0)
        figures[ways[3]].append(restore())
        if path.read_bytes() != whole.read_bytes():
            raise RuntimeError("something else was restored")
    print("\nover sshd on the loopback")
    found = {}
    for way, rows in figures.items():
        found[way] = {"wall": statistics.median(each["wall"] for each in rows)}
        print(f"{way:38}{found[way]['wall']:8.2f} s{found[way]['wall'] / found[ways[0]]['wall']:7.2f}x")
    shutil.rmtree(tool.folder)
    for each in (path, whole):
        os.unlink(each)
    return found
