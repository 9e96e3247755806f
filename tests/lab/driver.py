"""Runs in the guest: the agent's LVM modules controlled by a test, one JSON line in each direction.

It does what the agent's own loop does with these modules, step by step, so that a test can
look at the host between any two steps, and can kill what it likes at any of them.
"""

import errno
import hashlib
import json
import os
import signal
import sys
import time
import traceback

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from agent.errors import AgentError  # noqa: E402
from agent.snapshots import client, lvm, pool, sizing, snapshot, sweep  # noqa: E402
from agent.snapshots.runner import Runner  # noqa: E402


class Driver:
    """One agent's worth of state."""

    def __init__(self):
        self.said = []
        self.run = Runner(self.said.append, verbose=True)
        self.custody = None
        self.snapshot = None
        self.held = None

    def find(self, path):
        found, _ = lvm.find(path, self.run)
        return None if found is None else dict(found._asdict())

    def extents(self, path, wanted):
        found = sizing.extents(lvm.find(path, self.run)[0], wanted)
        return None if found is None else found.count

    def sweep(self, ended):
        return sweep.sweep(self.run, ended=ended)

    def open(self, silence_s):
        self.custody = client.SupervisorClient(silence_s, self.said.append, verbose=True)
        return [os.getpid(), self.custody._pid]

    def make(self, path, wanted, set_hash, run_id, reckoned=None):
        volume, _ = lvm.find(path, self.run)
        self.snapshot = self.custody.make(volume, reckoned or sizing.extents(volume, wanted), set_hash, run_id)
        return dict(self.snapshot._asdict(), name=self.snapshot.name)

    def create(self, path, wanted, set_hash, run_id):
        """Have it made, and be interrupted before it is looked at."""

        def interrupted():
            raise InterruptedError(errno.EINTR, "by the test")

        volume, _ = lvm.find(path, self.run)
        self.custody.make(volume, sizing.extents(volume, wanted), set_hash, run_id, interrupted)

    def beat(self):
        state = self.custody.beat()
        return None if state is None else dict(state._asdict())

    def check(self):
        return dict(self.custody.check()._asdict())

    def usage(self):
        """Return how full the snapshot is: as device mapper says it, and as LVM does."""
        return snapshot.glance(self.snapshot, self.run), snapshot.look(self.snapshot, self.run)

    def hold(self):
        self.held = os.open(self.snapshot.device, os.O_RDONLY)

    def read(self):
        digest = hashlib.md5()
        with open(self.snapshot.device, "rb", buffering=0) as file:
            for data in iter(lambda: file.read(1 << 20), b""):
                digest.update(data)
        return digest.hexdigest()

    def reserve(self, path, numbers):
        """For each signal reserve the metadata of a thin volume's pool, and get it; return what the pool says then."""
        found, _ = pool.find(path, self.run)
        states = []
        for number in numbers:
            ready, told = os.pipe()
            child = os.fork()
            if child == 0:
                os.close(ready)
                signal.signal(number, signal.SIG_DFL) if number != signal.SIGKILL else None
                custody = client.SupervisorClient(60, self.said.append)
                os.write(told, b"y" if custody.reserve(found) else b"n")
                time.sleep(60)
            os.close(told)
            assert os.read(ready, 1) == b"y"
            os.close(ready)
            held = self._held(found)
            os.kill(child, number)
            os.waitpid(child, 0)
            deadline = time.monotonic() + 10
            while self._held(found) != "-" and time.monotonic() < deadline:
                time.sleep(0.05)
            states.append([held != "-", self._held(found)])
        return states

    def orphaned(self, path):
        """Reserve it, lose the supervisor, and clean up; return what the pool says before and after."""
        found, _ = pool.find(path, self.run)
        custody = client.SupervisorClient(60, self.said.append)
        assert custody.reserve(found)
        os.kill(custody._pid, signal.SIGKILL)
        held = self._held(found)
        custody.remove()
        return [held != "-", self._held(found)]

    def _held(self, found):
        return self.run("dmsetup", "status", found.name).split()[6]

    def remove(self):
        return self.custody.remove()

    def chatter(self):
        said, self.said[:] = list(self.said), []
        return said


def main():
    driver = Driver()
    for line in iter(sys.stdin.readline, ""):
        do, arguments = json.loads(line)
        try:
            reply = {"value": getattr(driver, do)(*arguments)}
        except AgentError as error:
            reply = {"error": error.error, "arguments": error.args}
        except OSError as error:
            reply = {"errno": error.errno}
        except Exception:
            reply = {"crash": traceback.format_exc()}
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
