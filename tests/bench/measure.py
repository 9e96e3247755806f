"""One command, measured as a whole: wall time, CPU time of all its processes, peak memory.

Run as a program it is a prefix: `measure.py FILE COMMAND...` runs COMMAND and leaves its
figures in FILE, which is how the agent's side is told from the server's.
"""

import json
import os
import subprocess
import sys
import time


def run(words, folder=None, environment=None, stdin=None, stdout=None, sync=None):
    """Run a command and return its figures; raises RuntimeError if it fails.

    `sync`: a folder whose file system is synced, inside the measured time.
    """
    log = os.open("/dev/null", os.O_WRONLY)
    begun = time.monotonic()
    process = subprocess.Popen(
        [str(word) for word in words],
        cwd=folder,
        env=dict(os.environ, **(environment or {})),
        stdin=stdin or subprocess.DEVNULL,
        stdout=stdout or log,
        stderr=subprocess.PIPE,
    )
    error = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if sync is not None:
        subprocess.run(["sync", "-f", sync], check=True)
    wall = time.monotonic() - begun
    process.stderr.close()
    os.close(log)
    if process.returncode not in (0, 3):
        raise RuntimeError(f"{words}: exit {process.returncode}: {error.decode()[-2000:]}")
    return {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "memory": usage.ru_maxrss * 1024}


def main():
    """Be a prefix."""
    file, words = sys.argv[1], sys.argv[2:]
    child = os.fork()
    if child == 0:
        os.execvp(words[0], words)
    _, status, usage = os.wait4(child, 0)
    with open(file, "w") as out:
        json.dump({"cpu": usage.ru_utime + usage.ru_stime, "memory": usage.ru_maxrss * 1024}, out)
    sys.exit(os.waitstatus_to_exitcode(status) & 0xFF)


if __name__ == "__main__":
    main()
