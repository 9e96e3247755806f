"""The moment of the snapshots: all at once, inside the lock, and reading not before it is over."""

import contextlib
import types

import pytest

from blockdiff.errors import SnapshotRefused
from blockdiff.source import snapshots


class Waiting:
    """A session that logs what it is asked."""

    volume = "/dev/vg/lv"

    def __init__(self, log, name, from_snapshot=True):
        self._log, self._name, self.from_snapshot = log, name, from_snapshot

    def now(self, places):
        self._log.append((self._name, "now", places))

    def taken(self, check):
        check()
        self._log.append((self._name, "taken"))


def quiesce(log, **facts):
    @contextlib.contextmanager
    def make():
        log.append("lock")
        yield types.SimpleNamespace(
            facts={"method": "x", **facts}, check=lambda: log.append("check"), release=lambda: log.append("release")
        )

    return make


def test_without_a_lock_only_those_that_wait_are_asked():
    log = []
    assert snapshots.snapshots([Waiting(log, "a"), Waiting(log, "b", False)], None) is None
    assert log == [("a", "now", None), ("a", "taken")]


def test_all_are_asked_before_any_is_waited_for_and_inside_the_lock():
    log = []
    facts = snapshots.snapshots([Waiting(log, "a"), Waiting(log, "b")], quiesce(log, held_s=1.5, secret="x"))
    assert [entry if isinstance(entry, str) else entry[:2] for entry in log] == [
        "lock", ("a", "now"), ("b", "now"), "check", ("a", "taken"), "check", ("b", "taken"), "release",
    ]  # fmt: skip
    assert facts["held_s"] == 1.5 and facts["method"] == "x" and "secret" not in facts


def test_with_a_lock_a_volume_without_a_snapshot_is_refused_before_it():
    log = []
    with pytest.raises(SnapshotRefused, match="a lock is asked for"):
        snapshots.snapshots([Waiting(log, "a"), Waiting(log, "b", False)], quiesce(log))
    assert log == []


def test_the_agent_is_told_where_the_application_keeps_its_data():
    log = []
    facts = {"pid_file": "/run/x.pid", "directories": ["/var/lib/x"], "hostname": "db00", "client_port": 1 << 16}
    snapshots.snapshots([Waiting(log, "a")], quiesce(log, **facts))
    assert log[1][2] == {**facts, "client_port": None}
