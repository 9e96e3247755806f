"""Which versions stay: each rule by hand, and what holds of all rules over random histories."""

import random
import zoneinfo
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from blockdiff.sets.retention import Point, Rules, Untrusted, check_times, parse_span

MIDNIGHT = datetime(2026, 11, 23, 3, 5, tzinfo=UTC)


def utc(time):
    return time.astimezone(UTC)


def nights(count, newest=MIDNIGHT, step=timedelta(days=1)):
    """So many versions, the newest of them at `newest`."""
    return [Point(n, newest - (count - n) * step) for n in range(1, count + 1)]


def kept(points, local=utc, **rules):
    return sorted(Rules(**rules).keep(points, local))


@pytest.mark.parametrize(
    "rules, stay",
    [
        ({"last": 3}, [58, 59, 60]),
        ({"last": 1}, [60]),
        ({"daily": 3}, [58, 59, 60]),
        ({"weekly": 3}, [52, 59, 60]),  # 2026-11-23 is a Monday
        ({"monthly": 2}, [37, 60]),  # 31 October
        ({"monthly": 3}, [6, 37, 60]),
        ({"monthly": 4}, [1, 6, 37, 60]),  # there are but three months: the oldest, too
        ({"yearly": 1}, [60]),
        ({"yearly": 2}, [1, 60]),
        ({"hourly": 2}, [59, 60]),  # of hours that have one
        ({"within": parse_span("48h")}, [58, 59, 60]),
        ({"within": parse_span("1m")}, list(range(29, 61))),
        ({"numbers": frozenset({7, 99}), "last": 1}, [7, 60]),
        ({"daily": 2, "weekly": 2}, [59, 60]),  # each counts by itself
    ],
    ids=str,
)
def test_a_rule(rules, stay):
    assert kept(nights(60), **rules) == stay


def test_reasons_name_each_rule():
    why = Rules(last=1, daily=2, monthly=12, within=parse_span("1d"), numbers=frozenset({3})).keep(
        [*nights(4)[:2], replace(nights(4)[2], pinned=True), nights(4)[3]], utc
    )
    assert why == {
        1: ["oldest, until there are 12 months"],
        3: ["there is a 3.keep", "--keep", "day 2", "within 1d"],
        4: ["newest", "last 1", "day 1", "month 1", "within 1d"],
    }


def test_a_source_that_was_off_loses_nothing():
    points = [Point(1, datetime(2020, 1, 1, tzinfo=UTC)), Point(2, datetime(2026, 1, 1, tzinfo=UTC))]
    assert kept(points, daily=2) == kept(points, yearly=2) == kept(points, hourly=2) == [1, 2]


def test_only_versions_that_restore_count():
    points = nights(5)
    points[4] = replace(points[4], restores=False)
    points[2] = replace(points[2], restores=False)
    assert kept(points, last=2) == [2, 4]
    assert kept([replace(point, restores=False) for point in points], last=2) == []


@pytest.mark.parametrize(
    "text, before",
    [
        ("36h", datetime(2024, 3, 29, 15, tzinfo=UTC)),
        ("1m", datetime(2024, 2, 29, 3, tzinfo=UTC)),
        ("13m", datetime(2023, 2, 28, 3, tzinfo=UTC)),
        ("1y", datetime(2023, 3, 31, 3, tzinfo=UTC)),
        ("9999y", datetime.min.replace(tzinfo=UTC)),
    ],
)
def test_a_span_goes_by_the_calendar(text, before):
    assert parse_span(text).before(datetime(2024, 3, 31, 3, tzinfo=UTC)) == before


@pytest.mark.parametrize("text", ["", "14", "d", "0d", "-1d", "1.5d", "14 d", "14D", "1d1h", "\u0661d", "9999999d"])
def test_what_is_no_span(text):
    with pytest.raises(ValueError):
        parse_span(text)


def test_weeks_are_iso_weeks_also_where_a_year_has_53():
    begin = datetime(2020, 12, 27, 12, tzinfo=UTC)  # a Sunday; Monday begins week 53, of 2020 until 3 January 2021
    points = [Point(n, begin + timedelta(days=n)) for n in range(9)]
    assert kept(points, weekly=3) == [0, 7, 8]


def test_a_day_is_that_of_the_servers_time_zone():
    zone = zoneinfo.ZoneInfo("Europe/Berlin")
    points = [Point(1, datetime(2026, 6, 1, 21, 0, tzinfo=UTC)), Point(2, datetime(2026, 6, 1, 23, 0, tzinfo=UTC))]
    assert kept(points, local=lambda time: time.astimezone(zone), daily=2) == [1, 2]
    assert kept(points, daily=2) == [1, 2], "the oldest, until there are two days"
    assert kept(points, daily=1) == [2]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"])
def test_days_with_23_and_25_hours_are_days(zone):
    zone = zoneinfo.ZoneInfo(zone)
    points = [Point(n, datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=n)) for n in range(1, 24 * 364)]
    days = {point.time.astimezone(zone).date() for point in points}
    assert len(kept(points, local=lambda time: time.astimezone(zone), daily=9999)) in (len(days), len(days) + 1)
    hours = kept(points, local=lambda time: time.astimezone(zone), hourly=9999)
    assert len(hours) >= len(points) - 1, "the hour that comes twice is two hours"


def randomly(choose):
    """Versions at random times, in order, and rules."""
    time, points = datetime(2019, 12, 20, tzinfo=UTC) + timedelta(hours=choose.randrange(9999)), []
    for number in sorted(choose.sample(range(1, 200), choose.randrange(1, 50))):
        time += timedelta(seconds=int(choose.expovariate(1 / choose.choice((3600, 86400, 604800)))))
        points.append(Point(number, time, choose.random() < 0.95, choose.random() < 0.03))
    rules = Rules(
        *(choose.choice((0, 0, 1, 2, 5, 30)) for _ in range(6)),
        choose.choice((None, parse_span(f"{choose.randrange(1, 60)}{choose.choice('hdwmy')}"))),
        frozenset(choose.sample(range(200), choose.randrange(3))),
    )
    return points, rules


def test_what_holds_of_all_rules():
    """10,000 random histories: the newest stays, rules only widen, and a second prune changes nothing."""
    choose = random.Random(11)
    zones = [zoneinfo.ZoneInfo(name) for name in ("UTC", "Europe/Berlin", "America/St_Johns", "Pacific/Apia")]
    for _ in range(10_000):
        points, rules = randomly(choose)
        zone = choose.choice(zones)

        def local(time, zone=zone):
            return time.astimezone(zone)

        stay = rules.keep(points, local)
        good = [point.number for point in points if point.restores]
        assert not good or good[-1] in stay
        assert all(why for why in stay.values())
        assert stay.keys() <= {point.number for point in points}
        again = rules.keep([point for point in points if point.number in stay], local)
        assert again.keys() == stay.keys()
        field, more = choose.choice(("last", "daily", "weekly", "monthly", "yearly", "hourly")), choose.randrange(1, 9)
        wider = replace(rules, **{field: getattr(rules, field) + more})
        assert wider.keep(points, local).keys() >= stay.keys() - oldest_only(stay)


def oldest_only(stay):
    """The oldest version, where it stays only until there are enough periods."""
    return {number for number, why in stay.items() if all(reason.startswith("oldest") for reason in why)}


@pytest.mark.parametrize("hours", [0, 5, 23])
def test_the_hour_of_the_clock_decides_nothing(hours):
    points = nights(40)
    check_times(points, MIDNIGHT + timedelta(hours=hours))  # the clock is asked for nothing else


def test_times_that_cannot_be_right():
    points = nights(3)
    check_times(points, MIDNIGHT)
    check_times(points, MIDNIGHT - timedelta(minutes=59))
    check_times([], MIDNIGHT)
    with pytest.raises(Untrusted, match="version 3 was begun after now"):
        check_times(points, MIDNIGHT - timedelta(minutes=61))
    with pytest.raises(Untrusted, match="version 3 was begun before version 2"):
        check_times([points[0], points[1], replace(points[2], time=points[0].time)], MIDNIGHT)
    copied = [replace(point, time=MIDNIGHT, recorded=False) for point in points[:2]]
    with pytest.raises(Untrusted, match="versions 1 and 2 have no manifest"):
        check_times(copied, MIDNIGHT)
    check_times([copied[0], replace(copied[1], recorded=True)], MIDNIGHT)


def test_a_rule_that_needs_no_times_is_told_from_one_that_does():
    assert not Rules(last=3, numbers=frozenset({1})).need_times and not Rules(last=3).none
    assert Rules(numbers=frozenset({1})).none and Rules().none
    assert Rules(daily=1).need_times and Rules(within=parse_span("1d")).need_times
