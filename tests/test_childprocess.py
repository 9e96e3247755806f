"""A program in the foreground: its exit code as the shell reports it, and the signals that it gets."""

import os
import signal
import subprocess

import pytest

from blockdiff.childprocess import Signals, exit_code, exit_code_unstarted
from blockdiff.errors import Interrupted


def test_exit_codes_are_the_shells():
    assert [exit_code(status) for status in (0, 7, -9, -15)] == [0, 7, 137, 143]
    assert (exit_code_unstarted(FileNotFoundError()), exit_code_unstarted(PermissionError())) == (127, 126)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_start_interrupts_and_later_it_is_passed_on(number):
    before = signal.getsignal(number)
    with Signals() as signals:
        with pytest.raises(Interrupted) as caught:
            os.kill(os.getpid(), number)
        assert caught.value.exit_code == 128 + number
        with signals.start(lambda: subprocess.Popen(["sleep", "60"])) as child:
            os.kill(os.getpid(), number)
            assert child.wait(20) == -number
        assert signals.received == [number]
    assert signal.getsignal(number) is before


def test_a_signal_that_comes_while_the_child_is_started_is_for_the_child():
    def spawn():
        child = subprocess.Popen(["sleep", "60"])
        os.kill(os.getpid(), signal.SIGTERM)
        return child

    with Signals() as signals, signals.start(spawn) as child:
        assert child.wait(20) == -signal.SIGTERM
