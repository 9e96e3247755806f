"""A full out of stored versions, and many dailies into one, compared with a full from the source."""

import os
import pathlib
import random
import shutil

from . import measure, volume
from .tools import ROOT

_SIZE = 512 << 20  # bytes
_VERSIONS = 15
_CHANGED, _RUN = 0.01, 1 << 20  # share of the volume that changes in a day; bytes that change together


def _clustered(path: pathlib.Path, turn: int) -> None:
    """Write over 1 % of the volume, in runs of 1 MiB."""
    choose = random.Random(turn)
    with open(path, "r+b") as file:
        for index in choose.sample(range(_SIZE // _RUN), max(1, int(_SIZE // _RUN * _CHANGED))):
            file.seek(index * _RUN)
            file.write(choose.randbytes(_RUN // 4) + bytes(_RUN // 4) + os.urandom(_RUN // 2))


def figures(folder: pathlib.Path) -> list[dict]:
    """Print a line for each work; returns all figures."""
    path = folder / "volume"
    print(f"{'changes':>12}{'work':>18}{'wall':>8}{'CPU':>8}{'of a full':>11}{'MiB':>6}{'stored MiB':>12}")
    done = []
    for name, change in (("scattered", volume.change), ("clustered", _clustered)):
        at = folder / name / "set"
        at.parent.mkdir()
        volume.make(path, _SIZE)
        for turn in range(_VERSIONS):
            measure.run([ROOT / "bin" / "blockdiff-backup", "-q", at, path])
            change(path, turn)
        full = measure.run([ROOT / "bin" / "blockdiff-backup", "-q", "--full", folder / "full", path])
        for work, options in (("14 into one", ("--onto", 1)), ("full, again", ()), ("full, of 15", ())):
            if work == "full, of 15":
                at = folder / name / "copy"
            elif work == "14 into one":
                _copied(at, folder / name / "copy")
            found = measure.run([ROOT / "bin" / "blockdiff-consolidate", "-q", *options, at])
            found["stored"] = os.path.getsize(f"{at}.{_VERSIONS}.gz")
            share = found["cpu"] / full["cpu"]
            done.append({"changes": name, "work": work, "of_full": share, **found})
            memory = found["memory"] / 2**20
            print(f"{name:>12}{work:>18}{found['wall']:8.2f}{found['cpu']:8.2f}{share:11.2f}{memory:6.0f}", end="")
            print(f"{found['stored'] / 2**20:12.1f}", flush=True)
        shutil.rmtree(folder / name)
        for file in folder.glob("full.*"):
            file.unlink()
    return done


def _copied(name: pathlib.Path, new: pathlib.Path) -> None:
    """Copy a set, under a new name."""
    for file in name.parent.glob(f"{name.name}.*"):
        shutil.copy2(file, new.parent / (new.name + file.name[len(name.name) :]))
