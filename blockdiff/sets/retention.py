"""Which versions of a set stay: rules in, reasons out.

Rules add up, and each counts by itself.  A calendar rule keeps the newest version of each of the
last N periods that have one, so a source that is off for months loses nothing.  While there are
fewer periods than N, the oldest version stays, too.  Only versions that restore count.  Pure: the
time and the time zone come in as arguments.
"""

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

AHEAD = timedelta(hours=1)  # how far the newest version may be ahead of the clock

_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_SPAN = re.compile(r"([1-9][0-9]{0,5})([hdwmy])", re.ASCII)


class Untrusted(ValueError):
    """The times of the versions cannot be trusted; the text is why."""


@dataclass(frozen=True)
class Span:
    """A span of time such as 14d; months and years are those of the calendar."""

    number: int
    unit: str  # h, d, w, m or y

    def __str__(self) -> str:
        return f"{self.number}{self.unit}"

    def before(self, time: datetime) -> datetime:
        """Return the time so long before `time`; in a shorter month its last day."""
        if self.unit in _UNITS:
            return time - self.number * _UNITS[self.unit]
        months = time.year * 12 + time.month - 1 - self.number * (12 if self.unit == "y" else 1)
        if months < 12:
            return datetime.min.replace(tzinfo=time.tzinfo)
        for day in range(time.day, 0, -1):
            try:
                return time.replace(year=months // 12, month=months % 12 + 1, day=day)
            except ValueError:
                continue
        raise AssertionError("every month has a first day")


def parse_span(text: str) -> Span:
    """Return the span that the text names.  Raises ValueError."""
    match = _SPAN.fullmatch(text)
    if match is None:
        raise ValueError(f"not a time span such as 36h, 14d, 8w, 6m or 2y: {text!r}")
    return Span(int(match[1]), match[2])


@dataclass(frozen=True)
class Rules:
    """What is to stay; 0 and None: no such rule."""

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    within: Span | None = None  # before the newest version, not before now
    numbers: frozenset[int] = frozenset()  # of versions

    @property
    def need_times(self) -> bool:
        """Whether a rule needs the times of versions."""
        return self.within is not None or any(count for _, count, _ in self._periods())

    @property
    def none(self) -> bool:
        """Whether there is no rule but numbers."""
        return not self.need_times and not self.last

    def _periods(self) -> list[tuple[str, int, Callable[[datetime], object]]]:
        """The calendar rules: name, periods, and what is the same for two times in one period."""
        return [
            ("hour", self.hourly, lambda time: (time.date(), time.hour, time.utcoffset())),
            ("day", self.daily, lambda time: time.date()),
            ("week", self.weekly, lambda time: time.isocalendar()[:2]),
            ("month", self.monthly, lambda time: (time.year, time.month)),
            ("year", self.yearly, lambda time: time.year),
        ]

    def keep(self, points: Sequence["Point"], local: Callable[[datetime], datetime]) -> dict[int, list[str]]:
        """Return which versions stay, and why.

        `points`: all versions of a set in order; `local` brings a time into the time zone of the calendar.
        """
        why: dict[int, list[str]] = {}
        good = [point for point in points if point.restores]
        for point in points:
            if point.pinned:
                why.setdefault(point.number, []).append(f"there is a {point.number}.keep")
            if point.number in self.numbers:
                why.setdefault(point.number, []).append("--keep")
        if not good:
            return why
        why.setdefault(good[-1].number, []).insert(0, "newest")
        for place, point in enumerate(reversed(good[-self.last :] if self.last else []), 1):
            why.setdefault(point.number, []).append(f"last {place}")
        for name, count, key in self._periods():
            if count:
                _calendar(name, count, good, [key(local(point.time)) for point in good], why)
        if self.within is not None:
            least = self.within.before(local(good[-1].time))
            for point in reversed(good):
                if local(point.time) >= least:
                    why.setdefault(point.number, []).append(f"within {self.within}")
        return why


@dataclass(frozen=True)
class Point:
    """One version, as the rules see it."""

    number: int
    time: datetime  # when its backup began; aware
    restores: bool = True
    pinned: bool = False  # a person keeps it, with NAME.N.keep
    recorded: bool = field(default=True, compare=False)  # the time is from a manifest, not from a file


def _calendar(
    name: str, count: int, good: Sequence[Point], keys: Sequence[object], why: dict[int, list[str]]
) -> None:
    """Note the newest version of each of the last `count` periods; `keys`: the period of each version."""
    periods: dict[object, int] = {}
    for point, key in zip(reversed(good), reversed(keys), strict=True):
        if key in periods:
            continue
        if len(periods) == count:
            return
        periods[key] = point.number
        why.setdefault(point.number, []).append(f"{name} {len(periods)}")
    if len(periods) < count and good[0].number != periods[keys[0]]:
        why.setdefault(good[0].number, []).append(f"oldest, until there are {count} {name}s")


def check_times(points: Sequence[Point], now: datetime) -> None:
    """Raise Untrusted if the times of these versions, in order, cannot be right."""
    for before, after in itertools.pairwise(points):
        if after.time < before.time:
            raise Untrusted(f"version {after.number} was begun before version {before.number}")
    if points and points[-1].time > now + AHEAD:
        raise Untrusted(f"version {points[-1].number} was begun after now: one of two clocks is wrong")
    by_file = [point for point in points if not point.recorded]
    for before, after in itertools.pairwise(by_file):
        if after.time == before.time:
            numbers = f"versions {before.number} and {after.number}"
            raise Untrusted(f"{numbers} have no manifest, and files of the same time: they were copied")
