"""How much memory python code takes."""

import contextlib
import tracemalloc


@contextlib.contextmanager
def peak_below(size):
    """Fail if what is done inside has more than size bytes of python's memory at any time."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < size, f"{peak} bytes"
