"""Charts of one set: what is drawn, what is marked, and how little it takes."""

import datetime

import pytest

from blockdiff.blocks.changemap import ChangeMap, Row
from blockdiff.page import charts
from blockdiff.page.axes import BOTTOM, TOP
from blockdiff.sets.catalogue import Entry

NOW = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)


def entry(number, **more):
    values = {"kind": "incremental", "stored": 1000 * number, "size": 1 << 20, "block_size": 4096, "blocks": 256}
    return Entry(number, **{"restores": True, **values, **more})


def drawn(entries, pinned=(), found=None):
    times = [NOW - datetime.timedelta(days=100 - each.number) for each in entries]
    return charts.of_set(entries, times, frozenset(pinned), found, 1 << 30, NOW)


def kinds(chart):
    return {kind for kind, path in chart.paths if path}


def test_what_is_special_of_a_version_has_a_shape_and_not_only_a_colour():
    plain = drawn([entry(1, kind="full"), entry(2)])[0]
    assert kinds(plain) == {"bar", "bar full", "sign full"}
    assert [text for _, text in plain.legend] == ["full", "incremental"]
    some = [entry(1, kind="full"), entry(4, restores=False), entry(5)]
    marked = drawn(some, pinned=(5, 6))[0]
    assert kinds(marked) == {"bar", "bar full", "sign full", "gap", "sign kept", "sign broken"}
    assert [text for _, text in marked.legend][2:] == ["removed", "kept by hand", "does not restore"]
    assert "3 versions, of which 1 full" in marked.about and "1 version kept by hand, 1 that do" in marked.about


def test_without_data_there_is_no_chart():
    assert drawn([]) == []
    assert [chart.title for chart in drawn([entry(1)])] == ["Versions over time", "Volume and archive"]
    lock = drawn([entry(1, lock_s=0.2), entry(2, fill=7.5)])[-1]
    assert lock.title == "Lock and snapshot" and kinds(lock) == {"bar lock", "bar fill"}
    assert "at most 200.0 ms" in lock.about and "at most 7.5 %" in lock.about
    assert kinds(drawn([entry(1, lock_s=0.0)])[-1]) == {"bar lock"}


def test_the_map_has_a_row_for_each_version_and_tells_of_its_parts():
    rows = [Row(2, 0, 4, (0.0, 0.0, None)), Row(3, 4, 6, (1.0, 0.5, 0.01))]
    chart = drawn([entry(1), entry(2), entry(3)], found=ChangeMap(rows, 6, 4096))[1]
    assert chart.title == "What changed where" and chart.image
    assert "versions 2 to 3" in chart.about and "most in version 3: 66.7%" in chart.about
    assert [label.text for label in chart.labels] == ["v 3", "0", "24.0 KiB"]
    assert chart.legend[-1] == ("outside", "beyond its end")


@pytest.mark.parametrize(
    "part, level", [(None, 15), (0.0, 0), (1e-9, 1), (0.0021, 2), (0.5, 11), (0.951, 14), (1.0, 14)]
)
def test_the_least_change_can_be_seen(part, level):
    assert charts._level(part) == level


def test_many_versions_take_no_more_than_what_can_be_seen():
    some = [entry(n, kind="full" if n == 1 else "incremental", stored=n, lock_s=n / 1000, fill=n / 50) for n in range(1, 2001)]
    times = [NOW - datetime.timedelta(hours=3000 - each.number) for each in some]
    for chart in charts.of_set(some, times, frozenset(), None, 0, NOW):
        assert sum(len(path) for _, path in chart.paths) < 2200
    highest = charts._thin([(100, 90), (101, 30), (102, 60), (300, 10)])
    assert highest == [(101, 30), (300, 10)]
    assert charts._last([(100, 90), (101, 80), (102, 60), (300, 10)])[-2:] == [(102, 60), (300, 10)]


def test_everything_is_inside_the_drawing():
    some = [entry(n, stored=n**5, lock_s=n, fill=n * 1.0, size=None) for n in range(1, 50)]
    for chart in drawn(some):
        assert all(TOP <= y <= BOTTOM for y in chart.lines)
        assert all(0 <= label.x <= 480 and 0 < label.y <= chart.height for label in chart.labels)
