"""What holds a block device; one that is busy in earnest: tests/lab/test_supervisor.py."""

import os

import pytest

from agent.snapshots import holders


def test_a_device_that_nobody_has_open_has_no_holders(tmp_path):
    assert holders.holders(str(tmp_path / "missing")) == ""


def test_processes_with_a_device_open_are_named(monkeypatch):
    devices = [f"/sys/class/block/{name}/dev" for name in os.listdir("/sys/class/block")] if os.path.isdir("/sys/class/block") else []
    for place in devices:
        with open(place) as file:
            major, minor = map(int, file.read().split(":"))
        path = f"/dev/{place.split('/')[4]}"
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except OSError:
            continue
        try:
            assert os.fstat(descriptor).st_rdev == os.makedev(major, minor)
            found = holders._processes(os.makedev(major, minor))
            assert any(text.startswith(f"process {os.getpid()} (") for text in found)
        finally:
            os.close(descriptor)
        return
    pytest.skip("no block device can be opened here")
