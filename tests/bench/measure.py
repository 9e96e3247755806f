"""One command, measured as a whole: wall time, CPU time of all its processes, peak memory.

Run as a program it is a prefix: `measure.py FILE COMMAND...` runs COMMAND and leaves its
figures in FILE, which is how the agent's side is told from the server's.  As that it loads
next to nothing: its own start is in the time of the command around it.
"""

import os
import sys
import time


def settle(folder, size):
    """Have so much memory at hand: where it comes from a hypervisor, who needs it first pays for it.

    For a folder in memory; done before each command, so that nobody pays more than another.
    """
    path = os.path.join(folder, "settle")
    piece = bytes(1 << 20)
    with open(path, "wb", buffering=0) as file:
        for _ in range(size >> 20):
            file.write(piece)
    os.unlink(path)


def warm(paths):
    """Read files once: where all is in memory, who reads first after a while must not pay for the rest."""
    piece = bytearray(1 << 20)
    for path in paths:
        with open(path, "rb", buffering=0) as file:
            while file.readinto(piece):
                pass


def run(words, folder=None, environment=None, stdout=None, sync=None):
    """Run a command and return its figures; raises RuntimeError if it fails.

    `sync`: a folder whose file system is synced, inside the measured time.
    """
    import json
    import subprocess
    import tempfile

    with tempfile.NamedTemporaryFile() as figures:
        done = subprocess.run(
            [sys.executable, "-S", __file__, figures.name, *map(str, words)],
            cwd=folder,
            env=dict(os.environ, **(environment or {})),
            stdin=subprocess.DEVNULL,
            stdout=stdout or subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        if done.returncode not in (0, 3):
            raise RuntimeError(f"{words}: exit {done.returncode}: {done.stderr.decode()[-2000:]}")
        found = json.loads(figures.read())
    begun = time.monotonic()
    if sync is not None:
        subprocess.run(["sync", "-f", sync], check=True)
    found["wall"] += time.monotonic() - begun
    return found


def main():
    """Be a prefix: small, for a process begins with the memory of the one that it was forked from."""
    file, words = sys.argv[1], sys.argv[2:]
    begun = time.monotonic()
    child = os.fork()
    if child == 0:
        os.execvp(words[0], words)
    _, status, usage = os.wait4(child, 0)
    wall = time.monotonic() - begun
    with open(file, "w") as out:
        out.write(f'{{"wall": {wall}, "cpu": {usage.ru_utime + usage.ru_stime}, "memory": {usage.ru_maxrss * 1024}}}')
    sys.exit(os.waitstatus_to_exitcode(status) & 0xFF)


if __name__ == "__main__":
    main()
