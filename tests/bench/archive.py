"""The life of an archive: a full without its source, daily versions put into one, a prune, and how long it locks."""

import contextlib
import fcntl
import pathlib
import random
import shutil
import statistics
import threading
import time

from tests.support import chains

from . import measure, volume
from .tools import ROOT, Ours

_DAYS = 15
_BLOCK = 64 * 1024  # bytes
_LISTED = 60  # versions of each set that is listed
_FLEET = 50  # sets that are checked
_PAIRS = 9


def clustered(path: pathlib.Path, turn: int, size: int) -> None:
    """Write anew 1 % of the volume, in one piece of a tenth of it: a log that goes round."""
    length = size // 100
    with open(path, "r+b") as file:
        file.seek((turn * length) % (size // 10) // _BLOCK * _BLOCK)
        file.write(random.Random(turn).randbytes(length))


def days(folder: pathlib.Path, path: pathlib.Path, kind: str, count: int) -> Ours:
    """Return a set of so many daily versions; 1 % of the blocks change a day."""
    tool = Ours(folder, path, None)
    tool.back_up()
    for turn in range(1, count):
        volume.change(path, turn) if kind == "scattered" else clustered(path, turn, path.stat().st_size)
        tool.back_up()
    return tool


def held(lock: pathlib.Path, stop: threading.Event, spans: list[float]) -> None:
    """Note how long each time the lock cannot be had, in seconds."""
    begun = None
    with open(lock, "rb+") as file:
        while not stop.is_set():
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                fcntl.flock(file, fcntl.LOCK_UN)
                if begun is not None:
                    spans.append(time.monotonic() - begun)
                begun = None
            except BlockingIOError:
                begun = begun or time.monotonic()
            time.sleep(0.0005)


def works(folder: pathlib.Path, path: pathlib.Path, size: int, kind: str) -> dict[str, dict]:
    """Return the figures of each work on a set of 15 days."""
    volume.make(path, size)
    tool = days(folder, path, kind, _DAYS)
    name = tool.folder / "set"
    stored = {n: pathlib.Path(f"{name}.{n}.gz").stat().st_size for n in range(1, _DAYS + 1)}
    copy = tool.folder / "copy"
    figures = {}
    (folder / "other").mkdir()
    full = Ours(folder / "other", path, None)
    figures["full from the source"] = full.back_up()
    shutil.rmtree(folder / "other")
    for work, options in (("full, made here", ()), ("14 days into one", ("--onto", "1"))):
        copy.mkdir()
        for file in tool.folder.glob("set.*"):
            shutil.copy2(file, copy)
        words = [*tool.command("blockdiff-consolidate"), "-q", *options, copy / "set"]
        spans: list[float] = []
        stop = threading.Event()
        watch = threading.Thread(target=held, args=(copy / "set.lock", stop, spans))
        watch.start()
        try:
            figures[work] = tool.measured(*words)
        finally:
            stop.set()
            watch.join()
        new = pathlib.Path(f"{copy / 'set'}.{_DAYS}.gz").stat().st_size
        figures[work] |= {"stored": new, "locked": max(spans, default=0.0)}
        figures[work]["of"] = sum(stored.values()) if work == "full, made here" else sum(stored.values()) - stored[1]
        shutil.rmtree(copy)
    shutil.rmtree(tool.folder)
    return figures


def listed(folder: pathlib.Path, path: pathlib.Path) -> dict[str, dict]:
    """Return the figures of listing a set of 60 versions, and of planning its prune."""
    volume.make(path, 64 << 20)
    tool = days(folder, path, "scattered", _LISTED)
    name = tool.folder / "set"
    figures = {}
    for work, words in (
        ("list", tool.command("blockdiff-list")),
        ("prune -n", [*tool.command("blockdiff-prune"), "-n", "--keep-last", "3", "--exact"]),
    ):
        runs = [tool.measured(*words, name) for _ in range(5)]
        figures[work] = min(runs, key=lambda run: run["wall"])
    shutil.rmtree(tool.folder)
    return figures


def fleet(folder: pathlib.Path) -> dict[str, dict]:
    """Return the figures of listing and of checking 50 sets of 60 versions, one after the other; medians of 9."""
    sets = folder / "fleet"
    sets.mkdir()
    for number in range(_FLEET):
        made = chains.new_set(sets, f"set{number:02}")
        content = bytearray(random.Random(number).randbytes(4 * _BLOCK))
        for turn in range(_LISTED):
            content[turn % 4 * _BLOCK : turn % 4 * _BLOCK + 8] = turn.to_bytes(8, "big")
            chains.write_version(made, bytes(content), _BLOCK)
    environment = {"XDG_STATE_HOME": str(folder / "state")}
    program = ROOT / "bin"
    measure.run([program / "blockdiff-verify", "-q", sets], environment=environment)
    ever = "36500d"
    words = {
        "list": [program / "blockdiff-list", sets],
        "check": [program / "blockdiff-check", "--age", ever, "--proved", ever, "--still", ever, sets],
    }
    runs = [{work: measure.run(line, environment=environment) for work, line in words.items()} for _ in range(_PAIRS)]
    shutil.rmtree(sets)
    return {
        work: {key: statistics.median(one[work][key] for one in runs) for key in ("wall", "cpu", "memory")}
        for work in words
    }


def run(folder: pathlib.Path, size: int) -> dict[str, dict]:
    """Print the figures as they are measured; returns them."""
    path = folder / "volume"
    out = {}
    for kind in ("scattered", "clustered"):
        out[kind] = works(folder, path, size, kind)
        full = out[kind]["full from the source"]
        print(f"\n15 days, 1 % of the blocks a day, {kind}")
        for work, found in out[kind].items():
            row = f"{work:22}{found['wall']:8.2f} s{found['cpu']:8.2f} cpu s{found['cpu'] / full['cpu']:7.2f}x"
            row += f"{found['memory'] / 2**20:7.0f} MiB"
            if "of" in found:
                row += f"  stored {found['stored'] / found['of']:.2f} of the versions read"
                row += f", locked for {found['locked'] * 1000:.0f} ms"
            print(row)
    out["listed"] = listed(folder, path)
    list_s, plan_s = (out["listed"][work]["wall"] for work in ("list", "prune -n"))
    print(f"\n60 versions: list {list_s:.2f} s, prune -n {plan_s:.2f} s, {plan_s / list_s:.1f}x")
    out["fleet"] = fleet(folder)
    list_s, check_s = (out["fleet"][work]["wall"] for work in ("list", "check"))
    print(f"{_FLEET} sets of {_LISTED} versions: list {list_s:.2f} s, check {check_s:.2f} s, {check_s / list_s:.1f}x")
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    return out
