"""Scales and paths of charts."""

import datetime
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockdiff.page import axes

NOW = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)


def days(*some):
    return [NOW - datetime.timedelta(days=day) for day in some]


@given(st.integers(0, 1 << 52))
def test_labels_of_bytes_reach_the_largest_and_are_few(most):
    end, ticks = axes.byte_ticks(most)
    assert end >= most and ticks[0] == (0, "0") and ticks[-1][0] == end
    assert 2 <= len(ticks) <= 6 and all(len(text) <= 9 for _, text in ticks)


@given(st.integers(1, 1 << 52), st.integers(1, 1 << 52))
def test_labels_of_a_logarithmic_scale_are_powers_of_two(one, other):
    least, most = sorted((one, other))
    low, high, ticks = axes.log_ticks(least, most)
    assert low <= least and most <= high and 2 <= len(ticks) <= 5
    assert (ticks[0][0], ticks[-1][0]) == (low, high)
    scale = axes.Vertical(high, least=low)
    assert axes.TOP <= scale.of(most) <= scale.of(least) <= axes.BOTTOM


@given(st.floats(0, 1e9))
def test_plain_labels(most):
    end, ticks = axes.plain_ticks(most, "ms")
    assert end >= most and [value for value, _ in ticks] == [0, end / 2, end]


def test_a_scale_of_nothing_is_at_the_bottom():
    assert axes.Vertical(0).of(0) == axes.BOTTOM
    assert axes.Vertical(100).of(50) == (axes.TOP + axes.BOTTOM) // 2


def test_versions_are_at_their_times_until_now():
    across = axes.Horizontal([1, 2, 9], days(40, 30, 20), NOW)
    (first, second, third), width = across.places.values(), axes.RIGHT - axes.LEFT
    assert second - first == pytest.approx(third - second, abs=1)
    assert axes.RIGHT - third > width * 0.4  # nothing since then
    assert [label.text for label in across.labels()] == ["20 Jan 2026", "1 Mar 2026"]


@pytest.mark.parametrize("times", [days(1, 2, 3), [None, *days(2, 1)], [None] * 3, days(2, 2, 1)], ids=str)
def test_without_times_in_order_versions_are_at_their_numbers(times):
    across = axes.Horizontal([1, 2, 5], times, NOW)
    assert across.places[5] - across.places[2] == pytest.approx(3 * (across.places[2] - across.places[1]), abs=3)
    assert [label.text for label in across.labels()] == ["version 1", "version 5"]


def test_one_version_has_one_label():
    assert [label.text for label in axes.Horizontal([7], [None], NOW).labels()] == ["version 7"]
    assert [label.text for label in axes.Horizontal([7], days(0), NOW).labels()] == ["1 Mar 2026"]


def drawn(path):
    """The points that a path of m, h, v and their large ones passes, and (x, y) after each command."""
    x = y = 0
    out = []
    for kind, words in re.findall(r"([MmHhVvz])([-\d ]*)", path):
        numbers = [int(word) for word in re.findall(r"-?\d+", words)]
        if kind in "Mm":
            x, y = (numbers[0], numbers[1]) if kind == "M" else (x + numbers[0], y + numbers[1])
        elif kind in "Hh":
            x = numbers[0] + (x if kind == "h" else 0)
        elif kind in "Vv":
            y = numbers[0] + (y if kind == "v" else 0)
        out.append((kind, x, y))
    return out


def test_bars_reach_from_the_bottom_to_their_points():
    found = drawn(axes.bars([(10, 50), (14, 20), (30, 179)], 180))
    assert [(x, y) for _, x, y in found] == [(10, 180), (10, 50), (14, 180), (14, 20), (30, 180), (30, 178)]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30))
def test_steps_pass_every_point(values):
    points = [(3 * place, value) for place, value in enumerate(values)]
    passed = [(x, y) for _, x, y in drawn(axes.steps(points))]
    level = dict(points[:1])
    for x, y in passed:
        level[x] = y
    for x, y in points:  # a point without a command of its own is on a level line
        before = max(place for place in level if place <= x)
        assert level[before] == y
    assert passed[-1] == points[-1]
