"""Scales of charts, the labels at them, and paths; all coordinates are whole units of a drawing 480 wide."""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from blockdiff.printable import size

LEFT, RIGHT = 84, 472
TOP, BOTTOM = 20, 180  # of the plot
HEIGHT = 218

Point = tuple[int, int]


@dataclass(frozen=True)
class Label:
    """Text of a chart, where it is, and the class that says how it is aligned."""

    x: int
    y: int
    text: str
    kind: str


@dataclass
class Chart:
    """A drawing: `lines` are of the grid, `paths` have a class each."""

    title: str
    note: str = ""
    about: str = ""  # what somebody reads who does not see it
    height: int = HEIGHT
    lines: list[int] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    paths: list[tuple[str, str]] = field(default_factory=list)
    image: str = ""  # base64 of a PNG file
    image_height: int = 0
    legend: list[tuple[str, str]] = field(default_factory=list)  # class and text


@dataclass(frozen=True)
class Vertical:
    """Values upwards from `bottom` to `top`."""

    most: float
    top: int = TOP
    bottom: int = BOTTOM
    least: float = 0.0  # above 0: a logarithmic scale

    def of(self, value: float) -> int:
        """Return the place of a value."""
        if not self.least:
            share = value / self.most if self.most else 0.0
        elif value <= self.least:
            share = 0.0
        else:
            share = math.log(value / self.least) / math.log(self.most / self.least)
        return round(self.bottom - min(share, 1.0) * (self.bottom - self.top))


class Horizontal:
    """Versions from left to right: by their times until now, or by their numbers if times are not in order."""

    def __init__(self, numbers: Sequence[int], times: Sequence[datetime | None], now: datetime) -> None:
        known = [time for time in times if time is not None]
        timed = len(known) == len(times) and all(a < b for a, b in itertools.pairwise(known))
        values = [time.timestamp() for time in known] if timed else [float(number) for number in numbers]
        first, last = values[0], max(values[-1], now.timestamp()) if timed else values[-1]
        inside = (LEFT + 8, RIGHT - 8)
        middle = (inside[0] + inside[1]) // 2
        span = last - first
        self.places = {
            number: round(inside[0] + (value - first) / span * (inside[1] - inside[0])) if span else middle
            for number, value in zip(numbers, values, strict=True)
        }
        if timed:
            ends = [f"{known[0]:%-d %b %Y}", f"{max(known[-1], now):%-d %b %Y}"]
        else:
            ends = [f"version {numbers[0]}", f"version {numbers[-1]}"]
        self.ends = ends if ends[0] != ends[1] else ends[:1]

    def labels(self, bottom: int = BOTTOM) -> list[Label]:
        """Return the labels of the first and the last version."""
        if len(self.ends) == 1:
            return [Label((LEFT + RIGHT) // 2, bottom + 28, self.ends[0], "m")]
        return [Label(LEFT, bottom + 28, self.ends[0], "s"), Label(RIGHT, bottom + 28, self.ends[1], "e")]


def grid(chart: Chart, scale: Vertical, ticks: Iterable[tuple[float, str]]) -> None:
    """Draw lines of the grid with their labels."""
    for value, text in ticks:
        y = scale.of(value)
        chart.lines.append(y)
        chart.labels.append(Label(LEFT - 8, y + 6, text, "e"))


def byte_ticks(most: float) -> tuple[float, list[tuple[float, str]]]:
    """Return the end of a linear scale for bytes up to `most`, and its labels."""
    unit = 1024.0 ** max(0, min(5, int(math.log(max(most, 1), 1024))))
    step = _step(max(most, 1) / unit) * unit
    count = math.ceil(max(most, 1) / step)
    return count * step, [(i * step, _short(i * step) if i else "0") for i in range(count + 1)]


def log_ticks(least: float, most: float) -> tuple[float, float, list[tuple[float, str]]]:
    """Return both ends of a logarithmic scale for bytes, and its labels: powers of 2, at most five."""
    low, high = math.floor(math.log2(max(least, 1))), math.ceil(math.log2(max(most, 2)))
    low = max(0, min(low - 1, high - 3))
    step = max(1, math.ceil((high - low) / 4))
    high = low + step * math.ceil((high - low) / step)
    powers = range(low, high + 1, step)
    return 2.0**low, 2.0**high, [(2.0**power, _short(2.0**power)) for power in powers]


def plain_ticks(most: float, unit: str) -> tuple[float, list[tuple[float, str]]]:
    """Return the end of a linear scale up to `most`, and the labels of its ends and its middle."""
    scale = 10.0 ** math.floor(math.log10(max(most, 0.001)))
    end = scale * next(nice for nice in (1, 2, 4, 6, 10) if nice * scale >= most)
    return end, [(0.0, "0"), (end / 2, f"{end / 2:g} {unit}"), (end, f"{end:g} {unit}")]


def _step(most: float) -> float:
    """Return a round step by which a scale to `most` has three to five lines."""
    rough = most / 4
    scale = 10.0 ** math.floor(math.log10(rough))
    return scale * next(nice for nice in (1, 2, 2.5, 5, 10) if nice * scale >= rough)


def _short(count: float) -> str:
    return size(round(count)).replace(".0 ", " ").replace("bytes", "B")


def bars(points: Iterable[Point], bottom: int = BOTTOM) -> str:
    """Return the path of a line upwards at each point, relative and therefore short."""
    out, last = [], (0, 0)
    for x, y in points:
        out.append(f"m{x - last[0]} {bottom - last[1]}v{min(y, bottom - 2) - bottom}")
        last = x, min(y, bottom - 2)
    return "".join(out)


def steps(points: Sequence[Point]) -> str:
    """Return the path of a line that changes at each point, and stays until the next."""
    (x, y), rest = points[0], points[1:]
    out = [f"M{x} {y}"]
    for next_x, next_y in rest:
        if next_y != y or (next_x, next_y) == rest[-1]:
            out.append(f"h{next_x - x}" + (f"v{next_y - y}" if next_y != y else ""))
            x, y = next_x, next_y
    return "".join(out)


def signs(points: Iterable[Point], shape: str) -> str:
    """Return the path of the same shape at each point."""
    return "".join(f"M{x} {y}{shape}" for x, y in points)
