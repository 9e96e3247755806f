"""A program that is run on somebody's behalf: its exit codes are the shell's, its signals are passed on."""

import os
import signal
import subprocess

import pytest

from blockdiff.childprocess import Signals, exit_code, exit_code_unstarted
from blockdiff.errors import Interrupted


def test_exit_codes_are_the_shells():
    assert [exit_code(status) for status in (0, 7, -signal.SIGTERM)] == [0, 7, 143]
    assert exit_code_unstarted(FileNotFoundError()) == 127
    assert exit_code_unstarted(PermissionError()) == 126


def test_a_signal_before_the_child_starts_interrupts():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted) as caught, Signals():
        os.kill(os.getpid(), signal.SIGTERM)

    assert caught.value.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("early", [True, False])
def test_a_signal_goes_to_the_child(early):
    def spawn():
        child = subprocess.Popen(["sleep", "60"])
        if early:  # it is kept until there is a child
            os.kill(os.getpid(), signal.SIGTERM)
        return child

    with Signals() as signals:
        child = signals.start(spawn)
        if not early:
            os.kill(os.getpid(), signal.SIGTERM)
        assert child.wait(60) == -signal.SIGTERM
    assert signals.received == [signal.SIGTERM]


def test_a_signal_that_was_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Signals() as signals:
            os.kill(os.getpid(), signal.SIGHUP)
        assert not signals.received
    finally:
        signal.signal(signal.SIGHUP, before)
