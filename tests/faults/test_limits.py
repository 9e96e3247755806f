"""The great invariant with every limit made tiny, so that each border is crossed in each run."""

import random
import shutil

import limits
import pytest
from engine import back_up, restored

from blockdiff import verify
from blockdiff.codecs import base
from blockdiff.sets.backupset import BackupSet
from blockdiff.source import push

SUFFIXES = ["", ".gz", ".zst"] + ([".lzop"] if shutil.which("lzop") else [])
PAGE = 4096  # bytes; holes of a file are whole pages


def write(path, volume):
    """Write a file whose zero pages are holes."""
    with open(path, "wb") as file:
        for place in range(0, len(volume), PAGE):
            page = volume[place : place + PAGE]
            if any(page):
                file.seek(place)
                file.write(page)
        file.truncate(len(volume))


def every(volume, rng, block_size, step, fill):
    """Change every so many blocks of a stretch of some KiB."""
    begin = rng.randrange(len(volume) // block_size + 1) * block_size
    for place in range(begin, min(begin + 6000, len(volume) - block_size), step * block_size):
        volume[place : place + block_size] = fill()


def edited(volume, rng, block_size, what):
    """What became of a volume until its next version."""
    noise = lambda: rng.randbytes(block_size)  # noqa: E731
    zeros = lambda: bytes(block_size)  # noqa: E731
    if what == "alternating zeros":
        every(volume, rng, block_size, 2, zeros)
    elif what == "zeros beside changes":
        every(volume, rng, block_size, 4, zeros)
        every(volume, rng, block_size, 3, noise)
    elif what == "short zero runs":
        for length in (1, 2, 3, 4, 5):
            place = rng.randrange(len(volume) // block_size) * block_size
            volume[place : place + length * block_size] = bytes(min(length * block_size, len(volume) - place))
    elif what == "punched":
        place = rng.randrange(max(1, len(volume) // PAGE)) * PAGE
        volume[place : place + 2 * PAGE] = bytes(min(2 * PAGE, len(volume) - place))
    elif what == "half blocks":
        for _ in range(9):
            place = rng.randrange(len(volume))
            length = min(block_size // 2 + 1, len(volume) - place)
            volume[place : place + length] = rng.choice((bytes(length), rng.randbytes(length)))
    elif what == "grown by a hole":
        volume += bytes(2 * PAGE + rng.randrange(2 * block_size)) + noise()
    elif what == "shrunk":
        del volume[len(volume) - rng.randrange(1, PAGE) :]
    elif what == "a log":
        place = rng.randrange(len(volume))
        volume[place : place + PAGE] = rng.randbytes(min(PAGE, len(volume) - place))
    return volume


EDITS = (
    "alternating zeros", "zeros beside changes", "short zero runs", "punched", "half blocks", "grown by a hole",
    "shrunk", "a log",
)  # fmt: skip
HOWS = ({}, {"rescan": True}, {"pack_wire": True}, {"full": True}, {"threads": 3})


# where one block is more than the agent reads at once, some borders are not there
CASES = [(suffix, 16, ()) for suffix in SUFFIXES] + [
    (".gz", 8, ()),
    (".zst", 100, ("a member that is full", "more parts than are written at once")),
]


@pytest.mark.parametrize("suffix, block_size, never", CASES)
def test_every_version_restores_whatever_border_is_crossed(suffix, block_size, never, tmp_path, monkeypatch):
    crossed = history(f"{suffix} {block_size}", suffix, block_size, tmp_path, monkeypatch)
    assert {border for border, times in crossed.items() if times < 3} == set(never)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(40))
def test_many_histories(seed, tmp_path, monkeypatch):
    rng = random.Random(seed)
    history(seed, rng.choice(SUFFIXES), rng.choice((1, 3, 8, 16, 33, 64, 100, 200)), tmp_path, monkeypatch)


def history(seed, suffix, block_size, folder, monkeypatch):
    """Back up a volume as it changes, and restore and verify each version; returns what borders were crossed."""
    rng = random.Random(seed)
    name, source, versions = folder / "set", folder / "vol", []
    volume = bytearray(rng.randbytes(3000) + bytes(2 * PAGE) + rng.randbytes(7000) + b"text " * 500)
    edits = rng.sample(EDITS, len(EDITS))
    with limits.small(monkeypatch) as crossed:
        for step, how in enumerate(HOWS):
            for what in edits[2 * step - 2 : 2 * step] if step else ():
                edited(volume, rng, block_size, what)
            write(source, volume)
            done = back_up(name, source, suffix=suffix, block_size=None if step else block_size, **how)
            assert done.kind == ("full" if how.get("full") or not step else "incremental")
            versions.append(bytes(volume))
        for number, expected in enumerate(versions, 1):
            assert restored(name, number, folder / "out") == expected, number
        whole = [(True, [], [])] * len(versions)
        assert [(v.restores, v.faults, v.warnings) for v in verify.verify(BackupSet(str(name))).versions] == whole
        # and what is larger than a reader takes at once
        with monkeypatch.context() as patch:
            patch.setattr(base, "MAX_MEMBER", 50)
            assert restored(name, len(versions), folder / "out") == versions[-1]
    if suffix not in (".gz", ".zst"):
        for border in ("a piece of an index", "a part of a member that is too large"):
            del crossed[border]
    return crossed


def test_the_limits_are_the_real_ones_afterwards(monkeypatch):
    before = {(module, name): getattr(module, name) for module, names in limits.SERVER.items() for name in names}
    pushed = push.bundle()
    with limits.small(monkeypatch):
        assert push.bundle() != pushed
        assert all(getattr(module, name) == value for module, names in limits.SERVER.items() for name, value in names.items())
    assert push.bundle() == pushed
    assert all(getattr(module, name) == value for (module, name), value in before.items())
