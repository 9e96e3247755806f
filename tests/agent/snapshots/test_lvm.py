"""What is not a report of LVM's as we ask for it is an error that says so, never taken for an answer."""

import json
import os
import stat

import pytest

from agent.errors import AgentError
from agent.snapshots import lvm, snapshot, sweep
from agent.snapshots.runner import ProgramFailed, Runner

UUID = "123456-1234-1234-1234-1234-1234-123456"


@pytest.fixture
def lvs(tmp_path, monkeypatch):
    """Return a function that makes the program lvs print a text, or fail after saying it."""

    def put(text, code=0):
        (tmp_path / "out").write_text(text)
        pipe = "" if code == 0 else " >&2"
        (tmp_path / "lvs").write_text(f"#!/bin/sh\ncat {tmp_path}/out{pipe}; exit {code}\n")
        (tmp_path / "lvs").chmod(stat.S_IRWXU)

    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return put


def row(**changed):
    fields = dict.fromkeys((lvm._FIELDS + "," + snapshot._FIELDS).split(","), "")
    numbers = {"lv_size": "1", "vg_extent_size": "1", "vg_free_count": "1"}
    return {**fields, **numbers, "lv_uuid": UUID, "lv_attr": "-wi-a-----", **changed}


def said(*rows):
    return json.dumps({"report": [{"lv": rows}], "log": []})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "cannot be read"),
        ("lvs{}", "cannot be read"),
        ("[]", "cannot be read"),
        ("{}", "cannot be read: 'report'"),
        ('{"report": [1]}', "cannot be read"),
        ('{"report": [{"lv": [1]}]}', "cannot be read"),
        (said({name: text for name, text in row().items() if not name.startswith("lv_t")}), "has no lv_tags"),
        (said(row(lv_size=7)), "has no lv_size"),
        (said(row(lv_size="1.50g")), "has '1.50g' as lv_size"),
        (said(row(vg_free_count="")), "has '' as vg_free_count"),
    ],
)
def test_a_report_that_cannot_be_used_is_the_reason(lvs, text, words):
    lvs(text)
    with pytest.raises(AgentError) as refused:
        lvm.by_uuid(UUID, "/dev/vg0/lv0", Runner())
    path, reason = refused.value.args
    assert (refused.value.error, path) == ("SnapshotRefused", "/dev/vg0/lv0")
    assert words in reason


def test_a_sweep_that_sees_nothing_says_so(lvs):
    lvs(said({"lv_name": "x"}))
    (note,) = sweep.sweep(Runner())
    assert note.startswith("cannot look for old snapshots: lvs: its report has no ")


def test_a_program_that_works_is_heard_only_by_those_who_want_that(lvs):
    lvs("nothing new")
    for verbose, heard in ((False, []), (True, ["lvs: nothing new"])):
        lines = []
        run = Runner(lines.append, verbose)
        for _ in range(3):
            run.chatter("lvs", run("lvs"))
        assert lines == heard


def test_of_a_program_that_fails_all_is_heard_once(lvs):
    lvs("  WARNING: a disk is missing\n  cannot do it\n", code=5)
    lines = []
    run = Runner(lines.append)
    for _ in range(3):
        with pytest.raises(ProgramFailed, match=r"^lvs: cannot do it$"):
            run("lvs")
    assert lines == ["lvs: WARNING: a disk is missing"]


def test_a_program_that_always_says_something_else_is_heard_no_longer(lvs):
    lines = []
    run = Runner(lines.append, verbose=True)
    for begin in range(0, 1000, 100):
        run.chatter("lvs", "\n".join(str(number) for number in range(begin, begin + 100)))
    assert len(lines) == 200
