"""What the page says in words and numbers."""

import datetime

import pytest

from blockdiff.page import values
from blockdiff.sets import checked, verified
from blockdiff.sets.catalogue import Entry, Listed
from blockdiff.sets.checked import Checked
from blockdiff.sets.health import Finding, State

ZONE = datetime.timezone(datetime.timedelta(hours=2), "EET")
NOW = datetime.datetime(2026, 3, 1, 8, tzinfo=ZONE)
DAY = 86400


def entry(number, **more):
    return Entry(number, **{"restores": True, "kind": "incremental", "parent": number - 1, "stored": 5 << 20, **more})


def rows(entries, proofs=None, damage=None, **more):
    one = Checked("a", newest=max((each.number for each in entries), default=0))
    one.listed = Listed("a", one.newest, entries, **more)
    one.proofs, one.damage = proofs or {}, damage or {}
    return list(values.rows(one, 1 << 20, NOW))


def test_times_are_in_the_pages_zone_whatever_the_manifest_has():
    for time in ("2026-02-28T23:30:00Z", "2026-02-28T23:30:00", "2026-03-01T01:30:00+02:00"):
        assert values.shown(time, ZONE) == "1 Mar 2026 01:30"
    assert values.shown("<b>\x1b", ZONE) == "<b>\\x1b"
    assert values.moment("9999-12-31T23:59:59-23:59", ZONE) is None


def test_rows_are_the_newest_first_with_what_is_gone_between():
    some = [
        entry(3, kind="full", parent=None, begun="2025-12-31T03:00:00Z"),
        entry(5, parent=3, begun="2026-02-27T03:00:00Z", restores=False, why="it is torn"),
        entry(6, begun="no time", rewritten=True),
    ]
    found = rows(some, {3: NOW.timestamp() - 2.5 * DAY}, dropping=[4], pinned=frozenset((5,)))
    assert found == [
        (6, "", "no time", "5.0", "never", "rewritten"),
        ("2026",),
        (5, "on 3", "27 Feb 05:00", "5.0", "never", "does not restore; it is torn; kept by hand"),
        ("version 4 being removed",),
        ("2025",),
        (3, "full", "31 Dec 05:00", "5.0", "2 d", ""),
        ("versions 1 to 2 removed",),
    ]


def test_a_proof_that_failed_is_told():
    damage = {2: verified.Damage(int(NOW.timestamp()) - 3600, "lost blocks")}
    some = [entry(1, parent=None), entry(2), entry(3), entry(4, parent=None)]
    marked = checked.marked(Listed("a", 4, some), verified.Notes({}, damage)).versions
    found = [row for row in rows(marked, damage=damage) if len(row) > 1]
    assert [row[4:] for row in found] == [
        ("never", ""),
        ("never", "does not restore; version 2, which it needs, is damaged"),
        ("failed, 1 h", "does not restore; a verify found lost blocks"),
        ("never", ""),
    ]


def test_many_rows_have_a_heading_for_each_month():
    first = datetime.datetime(2026, 1, 1, 3, tzinfo=datetime.UTC)
    some = [entry(n, begun=(first + datetime.timedelta(days=n)).isoformat()) for n in range(1, 100)]
    assert [row[0] for row in rows(some) if len(row) == 1] == [
        "April 2026", "March 2026", "February 2026", "January 2026",
    ]  # fmt: skip
    assert rows(some)[1][2] == "10 05:00"


@pytest.mark.parametrize("stored, unit", [(10, "KiB"), (5 << 20, "MiB"), (5 << 30, "GiB"), (5 << 40, "TiB")])
def test_a_column_has_one_unit(stored, unit):
    assert values.unit_of([entry(1, stored=stored), entry(2, stored=stored), entry(3, stored=1 << 50)])[0] == unit


def test_when_the_disk_is_full():
    some = [Checked("/a/x", device=1, free=40 << 30, a_day=float(1 << 30)), Checked("/a/y", device=1, free=40 << 30, a_day=float(1 << 30))]
    (room,) = checked.rooms(some)
    found = values.space(room, 160 << 30, "/a", NOW)
    assert (found["full"], found["share"], found["soon"], found["a_day"]) == ("in 20 d, on 21 Mar 2026", 75, True, "2.0 GiB")
    still = Checked("/b/x", device=2, free=1)
    slow = Checked("/c/x", device=3, free=1 << 50, a_day=1.0)
    ends = [values.space(each, 0, "", NOW)["full"] for each in checked.rooms([still, slow, *some])]
    assert ends == ["in 20 d, on 21 Mar 2026", "not within 10 years", "never at this rate"]


@pytest.mark.parametrize(
    "states, wanted",
    [
        ([], ("unknown", "No sets")),
        ([State.OK], ("ok", "The set is well")),
        ([State.OK] * 3, ("ok", "All 3 sets are well")),
        ([State.WARNING, State.OK], ("warning", "1 of 2 sets needs attention")),
        ([State.UNKNOWN, State.CRITICAL, State.OK], ("critical", "2 of 3 sets need attention")),
        ([State.CRITICAL], ("critical", "The set needs attention")),
    ],
)
def test_the_first_line(states, wanted):
    sets = [Checked(str(n), [Finding(state, "x")] if state else []) for n, state in enumerate(states)]
    assert values.headline(sets) == wanted
