"""Which snapshots a sweep takes for ours and dead; it asks a program that only prints reports.

Real snapshots of runs that were killed: tests/lab/test_supervisor.py.
"""

import os

import pytest
from reports import report, row

from agent.snapshots import sweep, tags
from agent.snapshots.runner import Runner

DEAD = tags.current("set", "run")._replace(start="1")  # this pid, but another process had it
ALIVE = tags.current("set", "run")


def swept(lvs, *rows, **options):
    lvs(report(*rows))
    return sweep.sweep(Runner(), sleep=lambda seconds: None, **options)


def test_a_sweep_that_sees_nothing_says_so(lvs):
    lvs(report({"lv_name": "x"}))
    (note,) = sweep.sweep(Runner())
    assert note.startswith("cannot look for old snapshots: lvs: its report has no ")


@pytest.mark.parametrize(
    ("changed", "note"),
    [
        ({"lv_tags": "backup,other"}, None),
        ({"lv_tags": ",".join(ALIVE.tags()), "lv_attr": "swi-a-s---"}, None),
        ({"lv_tags": "blockdiff", "lv_attr": "swi-a-s---"}, "vg/lv carries our tag but not all of them; it is left alone"),
        (
            {"lv_tags": ",".join(DEAD.tags()), "lv_attr": "-wi-a-----"},
            "vg/lv carries our tags but is no snapshot; it is left alone",
        ),
        (
            {"lv_tags": ",".join(DEAD._replace(host="another").tags()), "lv_attr": "swi-a-s---"},
            "vg/lv belongs to a run that cannot be seen from here; it is left alone",
        ),
    ],
)
def test_what_is_not_provably_ours_and_dead_is_left_alone(lvs, changed, note):
    assert swept(lvs, row(vg_name="vg", lv_name="lv", **changed)) == ([] if note is None else [note])


def test_a_snapshot_of_the_first_blockdiff_is_named(lvs):
    (note,) = swept(lvs, row(vg_name="vg", lv_name="lvm_dump", lv_attr="swi-a-s---"))
    assert note.endswith("lvremove vg/lvm_dump")
    assert swept(lvs, row(vg_name="vg", lv_name="lvm_dump")) == []


def test_what_a_dead_run_left_is_removed(lvs, tmp_path):
    """LVM then says that there is none, which is all that a removal wants."""
    first = report(row(vg_name="vg", lv_name="lv", lv_attr="swi-a-s---", lv_tags=",".join(DEAD.tags())))
    lvs(report())
    (tmp_path / "first").write_text(first)
    (tmp_path / "lvs").write_text(
        f"#!/bin/sh\nif [ -e {tmp_path}/first ]; then cat {tmp_path}/first; rm {tmp_path}/first; else cat {tmp_path}/out; fi\n"
    )
    assert sweep.sweep(Runner(), sleep=lambda seconds: None) == ["removed vg/lv, which run run left behind"]


def test_a_host_without_lvm_has_nothing_to_sweep(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("agent.snapshots.runner.SBIN", str(tmp_path))
    assert sweep.sweep(Runner()) == []
    assert not os.listdir(tmp_path)
