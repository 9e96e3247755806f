"""How much memory python code takes, and how much a process."""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import time
import tracemalloc

from programs import Program

MIB = 1 << 20
HERE = pathlib.Path(__file__).parent  # what tests share
AGENT, SERVER = 64 * MIB, 128 * MIB  # bytes; the bounds that are documented
# a backup without its command
DRIVER = """
import json, sys
sys.path[:0] = json.loads(sys.argv[1])
from engine import back_up
back_up(sys.argv[2], sys.argv[3], **json.loads(sys.argv[4]))
"""


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


def children_of(pid):
    try:
        return [
            int(child)
            for task in os.listdir(f"/proc/{pid}/task")
            for child in pathlib.Path(f"/proc/{pid}/task/{task}/children").read_text().split()
        ]
    except OSError:
        return []


def measured(*words, within_s=200):
    """Run a program to its end; returns its peak and that of its largest child, the agent, in bytes."""
    agents = {}
    server = 0
    # without a .venv in the checkout, the launchers take python3: then the one that runs the tests
    path = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
    environment = dict(os.environ, PATH=path)
    with Program([str(word) for word in words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        deadline = time.monotonic() + within_s
        while process.poll() is None:
            assert time.monotonic() < deadline
            server = max(server, peak_of(process.pid))
            for child in children_of(process.pid):
                agents[child] = max(agents.get(child, 0), peak_of(child))
            time.sleep(0.005)
        output = process.stdout.read()
    assert process.returncode == 0, output
    assert server > 8 * MIB  # it was looked at
    return server, max(agents.values(), default=0)


def engine(name, source, within_s=200, **wanted):
    """The peaks of a backup, by the engine that the command uses."""
    paths = json.dumps([str(HERE.parent.parent), str(HERE)])
    return measured(sys.executable, "-c", DRIVER, paths, name, source, json.dumps(wanted), within_s=within_s)


def within_bounds(peaks):
    server, agent = peaks
    assert agent > 4 * MIB  # it was looked at
    print(f"the server had {server / MIB:.1f} MiB, the agent {agent / MIB:.1f} MiB")
    assert agent < AGENT, f"the agent had {agent / MIB:.1f} MiB"
    assert server < SERVER, f"the server had {server / MIB:.1f} MiB"
