"""Numbers, names, ranges and tables as people read them."""

import json
import os
import time

import pytest

from blockdiff.commands import text


def test_a_name_cannot_control_a_terminal():
    assert text.name("/var/backup/ünï") == "/var/backup/ünï"
    assert text.name(os.fsdecode(b"v\xff\x1b[2J\n")) == "v\\xff\\x1b[2J\\n"


def test_neighbours_are_joined():
    assert text.numbers([5, 1, 2, 3, 9, 8]) == "1-3, 5, 8-9"
    assert text.numbers([]) == ""


def test_the_ends_of_ranges_are_included_and_their_number_is_bounded():
    assert text.ranges([(0, 4096), (8192, 12288)], more=False) == "0-4095, 8192-12287"
    assert text.ranges([(0, 1)], more=True) == "0-0, ..."
    assert text.ranges([(n, n + 1) for n in range(11)], more=False, most=10).endswith("9-9, ...")


def test_columns_are_aligned():
    rows = [("version", "size"), ("1", "10"), ("12", "9")]
    assert text.table(rows, frozenset({1})).splitlines() == ["version  size", "1          10", "12          9"]


def test_an_object_is_owed_until_it_is_printed(capsys, monkeypatch):
    monkeypatch.setattr(text, "_json_owed", True)
    assert text.json_owed()
    text.put_json({"b": 1, "a": 2}, line=True)
    assert not text.json_owed()
    assert capsys.readouterr().out == '{"a": 2, "b": 1}\n'
    text.put_json({"a": [1]})
    assert json.loads(capsys.readouterr().out) == {"a": [1]}


@pytest.mark.parametrize("zone, shown", [
    ("UTC", "2026-07-01 22:00:00 UTC"), ("Europe/Berlin", "2026-07-02 00:00:00 CEST"),
    ("XYZ-5:30", "2026-07-02 03:30:00 XYZ"),
])  # fmt: skip
def test_times_are_local_and_name_their_zone(monkeypatch, zone, shown):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert text.when("2026-07-01T22:00:00Z") == shown
        assert text.when("soon\n") == "soon\\n"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_times_for_scripts_are_utc(monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert (text.utc(1767488400.9), text.utc(None)) == ("2026-01-04T01:00:00Z", None)
    finally:
        monkeypatch.undo()
        time.tzset()
