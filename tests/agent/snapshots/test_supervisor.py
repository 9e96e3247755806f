"""The supervisor's reckoning, and its ends without a snapshot; with one: tests/lab/test_supervisor.py."""

import json
import os
import socket
import threading

import pytest

from agent.snapshots.snapshot import Snapshot, SnapshotUsage
from agent.snapshots.supervisor import Supervisor

THICK = Snapshot("/dev/vg/lv", "vg", "snap", "u", "/dev/dm-9", "lvm-thick", 1 << 30, 4 << 20, 100, None)


class Clock:
    """Seconds that pass only when somebody sleeps."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def channel():
    ours, its = socket.socketpair()
    with ours, its:
        yield ours, its


def made(channel, reader=None, silence_s=1000.0):
    clock = Clock()
    return Supervisor(channel, reader or os.getppid(), silence_s, False, monotonic=clock, sleep=clock.sleep), clock


def test_every_request_has_its_answer_until_the_removal(channel):
    ours, its = channel
    supervisor, _ = made(its)
    thread = threading.Thread(target=supervisor.serve)
    thread.start()
    answers = ours.makefile()
    for number, do in enumerate(["beat", "state", "remove"]):
        arguments = [True] if do == "state" else []
        ours.sendall(json.dumps({"number": number, "do": do, "arguments": arguments}).encode() + b"\n")
        assert json.loads(answers.readline()) == {"number": number, "value": None, "notes": []}
    thread.join(10)
    assert not thread.is_alive()
    answers.close()


def test_it_ends_with_its_channel(channel):
    ours, its = channel
    ours.close()
    made(its)[0].serve()


def test_it_ends_when_its_reader_is_not_its_parent_any_more(channel):
    made(channel[1], reader=os.getpid())[0].serve()


def test_the_pace_is_that_of_the_last_seconds():
    supervisor, _ = made(None)
    assert supervisor._pace() == 0.0
    supervisor._curve = [(0.0, 0.0), (100.0, 50.0)]
    assert supervisor._pace() == 0.0  # nothing but the last look is young enough
    supervisor._curve = [(0.0, 0.0), (95.0, 10.0), (97.0, 16.0), (100.0, 30.0)]
    assert supervisor._pace() == pytest.approx(4.0)


def test_how_it_was_lost_is_told_with_its_curve():
    supervisor, _ = made(None)
    supervisor._snapshot, supervisor._extended = THICK, 2
    supervisor._curve = [(100.0, 10.0), (101.0, 60.0), (102.0, 100.0)]
    words = supervisor._how_lost(SnapshotUsage(100.0, 25, 3, "the kernel invalidated it"))
    assert words == (
        "the kernel invalidated it (10 % after 0.0 s, 60 % after 1.0 s), it had 100 MiB, extended 2 times,"
        " 3 extents are free in vg"
    )


def test_a_complaint_is_noted_once():
    supervisor, _ = made(None)
    for _ in range(3):
        supervisor._note_once("cannot extend")
    assert list(supervisor._notes) == ["cannot extend"]
