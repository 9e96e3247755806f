"""Programs under test: ended whatever happens, waited for within bounds."""

import os
import signal
import subprocess
import time


class Program(subprocess.Popen):
    """A process in a session of its own, of which nothing is left if the test fails."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, start_new_session=True, **options)

    def __exit__(self, kind, *more):
        if kind is not None:
            os.killpg(self.pid, signal.SIGKILL)
        super().__exit__(kind, *more)


def until(condition, within_s=30):
    """Wait until something is true; fail if it does not come true."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
