"""How time, memory and room grow: with the volume, sparse but for its ends, and with the number of versions."""

import os
import pathlib
import random
import sys

from tests.support import engine

from . import measure
from .tools import ROOT, Ours

_GIB = 1 << 30
_DATA = 8 * 1024 * 1024  # bytes at each end
VOLUMES = (  # size and block size, in bytes; what grows is the number of blocks
    (1 * _GIB, 64 << 10),
    (4 * _GIB, 64 << 10),
    (16 * _GIB, 64 << 10),
    (64 * _GIB, 64 << 10),
    (64 * _GIB, 16 << 20),
    (1024 * _GIB, 16 << 20),
    (15 * 1024 * _GIB, 16 << 20),
)
_VERSIONS = (1, 10, 100, 1000)


def make(path: pathlib.Path, size: int) -> None:
    """Write a volume that is a hole but for its ends."""
    chance = random.Random(size)
    with open(path, "wb") as file:
        for start in (0, size - _DATA):
            file.seek(start)
            file.write(chance.randbytes(_DATA))


def works_on(folder: pathlib.Path, path: pathlib.Path, size: int, block_size: int) -> dict[str, dict]:
    """Return the figures of each work, in the order in which they are done."""
    make(path, size)
    tool = Ours(folder, path, str(folder))  # synced, since there is no memory to settle for holes
    tool.options = ("--block-size", str(block_size))
    figures = {"full": tool.back_up()}
    figures["full"]["stored"] = tool.stored()
    with open(path, "r+b") as file:
        file.seek(size - _DATA)
        file.write(bytes(4096))
    figures["incremental"] = tool.back_up()
    figures["restore"] = tool.restore()
    if os.path.getsize(tool.out) != size:
        raise RuntimeError(f"restored {os.path.getsize(tool.out)} bytes of {size}")
    tool.out.unlink()
    figures["verify"] = tool.verify()
    return figures


def volumes(folder: pathlib.Path) -> list[dict]:
    """Print a line for each volume as it is done; returns all figures."""
    works = ("full", "incremental", "restore", "verify")
    print(f"{'GiB':>7}{'KiB each':>10}{'blocks':>9}" + "".join(f"{work:>13}" for work in works), end="")
    print(f"{'stored MiB':>12}{'server MiB':>12}{'agent MiB':>11}")
    done = []
    for size, block_size in VOLUMES:
        figures = works_on(folder, folder / "volume", size, block_size)
        done.append({"size": size, "block_size": block_size, **figures})
        row = f"{size // _GIB:7}{block_size >> 10:>10}{size // block_size:9}"
        walls = "".join(f"{figures[work]['wall']:13.2f}" for work in works)
        server = max(figures[work]["memory"] for work in works)
        agent = max(figures[work]["agent_memory"] for work in works[:2])
        stored = figures["full"]["stored"]
        print(f"{row}{walls}{stored / 2**20:12.1f}{server / 2**20:12.0f}{agent / 2**20:11.0f}")
        sys.stdout.flush()
    return done


def versions(folder: pathlib.Path) -> list[dict]:
    """Print a line for each number of versions of a small set; returns all figures."""
    path, name, out = folder / "small", folder / "small-set" / "set", folder / "small-out"
    name.parent.mkdir()
    path.write_bytes(random.Random(1).randbytes(1 << 20))
    commands = {
        "list": ("blockdiff-list", name),
        "restore, planned": ("blockdiff-merge", "--dry-run", name, out),
        "restore": ("blockdiff-merge", "-q", name, out),
        "verify": ("blockdiff-verify", name),
        "next version": ("blockdiff-backup", "-q", name, path),
    }
    print(f"\n{'versions':>16}" + "".join(f"{work:>18}" for work in commands))
    done, made = [], 0
    for count in _VERSIONS:
        for number in range(made, count):
            with open(path, "r+b") as file:
                file.seek(number * 65536 % (1 << 20))
                file.write(number.to_bytes(4096, "big"))
            engine.back_up(name, path)
        figures = {work: measure.run([ROOT / "bin" / words[0], *words[1:]]) for work, words in commands.items()}
        out.unlink()
        made = count + 1  # the next version, too
        done.append({"versions": count, **figures})
        print(f"{count:16}" + "".join(f"{figures[work]['wall']:18.2f}" for work in commands))
        sys.stdout.flush()
    return done
