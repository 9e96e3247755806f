"""Sets in an object store, for tests: made in a folder, and sent as a place takes files."""

import contextlib
import os

import chains
import pytest

from blockdiff.formats import names
from blockdiff.place import choose
from blockdiff.place.base import Access

RUN = names.run_name(b"\x22" * 8)


@contextlib.contextmanager
def client(engine):
    """Let this process be a client of an engine."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in engine.environment.items():
            patch.setenv(name, value)
        choose._store.cache_clear()
        yield
        choose._store.cache_clear()


def send(folder, url, begin=""):
    """Put the files of a folder whose names begin so into the place `url`, replacing what is there; NAME.ver last."""
    place = choose.at(url, Access(alone=True))
    for name in sorted(os.listdir(folder), key=lambda name: (name.endswith(".ver"), name)):
        if name.startswith(begin) and not name.endswith(".lock"):
            part = place.part(name, RUN)
            with open(os.path.join(folder, name), "rb") as file:
                while data := file.read(1 << 20):
                    part.write(data)
            part.close()
            part.replace()
            part.discard()


def chain(folder, url, volumes, block_size=4096, base="db", **how):
    """Make a set of a version of each of these volumes in a folder, send it, and return its NAME in the store."""
    os.makedirs(folder, exist_ok=True)
    for volume in volumes:
        chains.write_version(chains.new_set(str(folder), base), volume, block_size, **how)
    send(folder, url, f"{base}.")
    return f"{url}/{base}"


def edited(volume, count, block_size, chance):
    """Return a volume with `count` other blocks."""
    out = bytearray(volume)
    for _ in range(count):
        at = chance.randrange(len(volume) // block_size) * block_size
        out[at : at + block_size] = chance.randbytes(block_size)
    return bytes(out)
