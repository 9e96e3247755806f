"""How much memory python code takes, and how much a process."""

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


def peak_of(pid):
    """Return the most memory that a process has had so far, in bytes; 0 if it is gone."""
    try:
        with open(f"/proc/{pid}/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return 0
