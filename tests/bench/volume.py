"""The volume that is measured: deterministic, part compressible, part random, part holes.

Its compressible part is made of words and numbers, so that it packs to about half, as file
systems full of programs and documents do.
"""

import os
import random

_MIB = 1024 * 1024
COMPRESSIBLE, RANDOM = 0.45, 0.20  # shares; the rest is hole
_CHANGED = 0.01  # of the blocks
_BLOCK, _WRITE = 64 * 1024, 4096  # bytes


def make(path, size):
    """Write a volume of size bytes."""
    choose = random.Random(2010)
    texts = [_text(choose) for _ in range(24)]
    with open(path, "wb") as file:
        for _ in range(0, size, _MIB):
            draw = choose.random()
            if draw < COMPRESSIBLE:
                text = bytearray(choose.choice(texts))
                for _piece in range(64):  # no two pieces are the same
                    at = choose.randrange(_MIB - 64)
                    text[at : at + 64] = choose.randbytes(64)
                file.write(text)
            elif draw < COMPRESSIBLE + RANDOM:
                file.write(choose.randbytes(_MIB))
            else:
                file.seek(_MIB, os.SEEK_CUR)
        file.truncate(size)


def _text(choose):
    """A MiB that packs to about half: words from a small book between bytes of chance."""
    words = [choose.randbytes(choose.randrange(2, 12)) for _ in range(600)]
    out = bytearray()
    while len(out) < _MIB:
        out += choose.choice(words) + choose.randbytes(choose.randrange(0, 4))
    return bytes(out[:_MIB])


def change(path, turn):
    """Write 4 KiB into each of 1 % of its 64 KiB blocks, scattered."""
    choose = random.Random(turn)
    size = os.path.getsize(path)
    count = size // _BLOCK
    with open(path, "r+b") as file:
        for index in choose.sample(range(count), max(1, int(count * _CHANGED))):
            file.seek(index * _BLOCK + choose.randrange(_BLOCK // _WRITE) * _WRITE)
            file.write(choose.randbytes(_WRITE))
