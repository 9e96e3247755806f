"""The volume that is measured: part real files of this machine, part random, part zeros and holes.

The same machine makes the same volume every time; `make` returns a digest of it, so that
two tables can be told to be of the same one.
"""

import hashlib
import os
import random
import sys
import zlib
from collections.abc import Iterator

_MIB = 1024 * 1024
FILES, RANDOM, ZEROS = 0.45, 0.20, 0.18  # shares; the rest is hole
_CHANGED = 0.01  # of the blocks
_BLOCK, _WRITE = 64 * 1024, 4096  # bytes
_ROOTS = (sys.base_prefix, "/usr/lib", "/usr/share", "/usr/bin")
_LARGEST = 32 * _MIB  # bytes of a file; larger ones would make the volume all of one kind


def make(path: str | os.PathLike[str], size: int) -> str:
    """Write a volume of size bytes; returns the first digits of its SHA-256."""
    choose = random.Random(2010)
    pieces = _pieces()
    known = hashlib.sha256()
    with open(path, "wb") as file:
        for start in range(0, size, _MIB):
            length = min(_MIB, size - start)
            draw = choose.random()
            if draw < FILES:
                data = next(pieces)[:length]
            elif draw < FILES + RANDOM:
                data = choose.randbytes(length)
            else:
                data = bytes(length)
            known.update(data)
            if draw < FILES + RANDOM + ZEROS:
                file.write(data)
            else:
                file.seek(length, os.SEEK_CUR)
        file.truncate(size)
    return known.hexdigest()[:12]


def _pieces() -> Iterator[bytes]:
    """Yield MiB after MiB of real files, each begun at a page as file systems do, no two files the same."""
    held = bytearray()
    turn = 0
    while True:
        seen = set()
        for path in _files():
            try:
                with open(path, "rb") as file:
                    data = file.read()
            except OSError:
                continue
            digest = hashlib.md5(data).digest()
            # what is packed already is what the random part stands for
            if digest in seen or len(zlib.compress(data[: 64 * 1024], 1)) > 0.8 * min(len(data), 64 * 1024):
                continue
            seen.add(digest)
            # where the machine has too few files they come again, not quite the same
            held += data if not turn else bytes(data).translate(bytes((b + turn) & 0xFF for b in range(256)))
            held += bytes(-len(held) % 4096)
            while len(held) >= _MIB:
                yield bytes(held[:_MIB])
                del held[:_MIB]
        turn += 1


def _files() -> list[str]:
    """Return the paths of real files, mixed, but always in the same order."""
    found = set()
    for root in _ROOTS:
        for folder, _, names in os.walk(root):
            for name in names:
                path = os.path.join(folder, name)
                if not os.path.islink(path) and os.path.isfile(path) and 0 < os.path.getsize(path) <= _LARGEST:
                    found.add(path)
    return sorted(found, key=lambda path: hashlib.md5(os.fsencode(path)).digest())


def change(path: str | os.PathLike[str], turn: int) -> None:
    """Write 4 KiB into each of 1 % of its 64 KiB blocks, scattered."""
    choose = random.Random(turn)
    size = os.path.getsize(path)
    count = size // _BLOCK
    with open(path, "r+b") as file:
        for index in choose.sample(range(count), max(1, int(count * _CHANGED))):
            file.seek(index * _BLOCK + choose.randrange(_BLOCK // _WRITE) * _WRITE)
            file.write(choose.randbytes(_WRITE))


def zero_every_other(path: str | os.PathLike[str]) -> None:
    """Write zeros over every other 64 KiB block: as many runs of blocks as there can be."""
    zeros = bytes(_BLOCK)
    with open(path, "r+b") as file:
        for start in range(0, os.path.getsize(path) - _BLOCK + 1, 2 * _BLOCK):
            file.seek(start)
            file.write(zeros)
