"""The pushed bundle with a line of it changed: hosts that lack something, bugs that are not there yet."""

import contextlib

from blockdiff.source import push


@contextlib.contextmanager
def changed(file, old, new):
    """Push another text in the place of one that stands in a file exactly once."""
    text = push.source(file).decode()
    assert text.count(old) == 1, (file, old)
    with replaced(file, text.replace(old, new).encode()):
        yield


@contextlib.contextmanager
def replaced(file, text):
    """Push other bytes in the place of a file."""
    real = push.source

    def source(name):
        return text if name == file else real(name)

    push.source = source
    push.bundle.cache_clear()
    try:
        yield
    finally:
        push.source = real
        push.bundle.cache_clear()


def without_xxhash():
    """Push an agent that finds no libxxhash."""
    return changed("agent/native.py", '"libxxhash.so.0"', '"libxxhash-is-not-here.so.0"')


def without_zstd():
    """Push an agent that finds no libzstd."""
    return changed("agent/native.py", '"libzstd.so.1"', '"libzstd-is-not-here.so.1"')


def without_ctypes():
    """Push an agent whose python has no ctypes."""
    return changed("agent/native.py", "    import ctypes\n", "    import ctypes_is_not_here as ctypes\n")
