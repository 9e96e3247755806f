"""The charts of one set: its versions over time, its size, what changed where, locks and snapshots.

Where there are more versions than a chart can show beside each other, those at nearly the same place
are one: the largest of a bar, the last of a line.
"""

import base64
import bisect
import itertools
import math
from collections.abc import Iterable, Sequence
from datetime import datetime

from blockdiff.blocks.changemap import ChangeMap
from blockdiff.page import png
from blockdiff.page.axes import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    Chart,
    Horizontal,
    Label,
    Point,
    Vertical,
    bars,
    byte_ticks,
    grid,
    log_ticks,
    plain_ticks,
    signs,
    steps,
)
from blockdiff.printable import size
from blockdiff.sets.catalogue import Entry

_MOST = 64  # bars beside each other
_DIAMOND, _RING, _CROSS = "m0-7 7 7-7 7-7-7z", "m-6 0a6 6 0 1 0 12 0a6 6 0 1 0-12 0", "m-6-6 12 12m0-12-12 12"
_LEVELS = (0.0, 0.002, 0.005, 0.01, 0.02, 0.04, 0.07, 0.12, 0.2, 0.3, 0.45, 0.6, 0.8, 0.95)  # of a part that changed
_OUTSIDE = len(_LEVELS) + 1
_BLUE, _GREY = (38, 122, 168), (128, 128, 128)
_PALETTE = [(*_BLUE, round(255 * (level / 14) ** 0.8)) for level in range(15)] + [(*_GREY, 44)]


def _thin(points: Iterable[Point]) -> list[Point]:
    """Return at most _MOST points, from left to right: of those that are close the highest."""
    out: dict[int, Point] = {}
    for x, y in points:
        place = (x - LEFT) * _MOST // (RIGHT - LEFT)
        if place not in out or y < out[place][1]:
            out[place] = (x, y)
    return [out[place] for place in sorted(out)]


def _last(points: Sequence[Point]) -> list[Point]:
    """Return at most _MOST points and the first: of those that are close the last."""
    return [points[0], *{(x - LEFT) * _MOST // (RIGHT - LEFT): (x, y) for x, y in points[1:]}.values()]


def _plural(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def versions(entries: Sequence[Entry], across: Horizontal, pinned: frozenset[int]) -> Chart:
    """Return the time line: a bar for each version, as high as the bytes that it takes, logarithmic."""
    chart = Chart("Versions over time", "logarithmic")
    sizes = [max(entry.stored, 1) for entry in entries]
    least, most, ticks = log_ticks(min(sizes), max(sizes))
    scale = Vertical(most, least=least)
    grid(chart, scale, ticks)
    chart.labels += across.labels()
    tops = {entry.number: (across.places[entry.number], scale.of(max(entry.stored, 1))) for entry in entries}
    fulls = [entry.number for entry in entries if entry.kind == "full"]
    chart.paths.append(("bar", bars(_thin(tops[entry.number] for entry in entries if entry.kind != "full"))))
    chart.paths.append(("bar full", bars(tops[number] for number in fulls)))
    chart.paths.append(("sign full", signs((tops[number] for number in fulls), _DIAMOND)))
    chart.legend = [("full", "full"), ("bar", "incremental")]
    numbers = [entry.number for entry in entries]
    gaps = [(a, b) for a, b in itertools.pairwise(numbers) if b > a + 1]
    if gaps:
        line = "".join(f"M{tops[a][0]} {BOTTOM + 6}H{tops[b][0]}" for a, b in gaps)
        chart.paths.append(("gap", line))
        chart.legend.append(("gap", "removed"))
    if held := [tops[number] for number in numbers if number in pinned]:
        chart.paths.append(("sign kept", signs(((x, y - 16) for x, y in held), _RING)))
        chart.legend.append(("kept", "kept by hand"))
    if broken := [tops[entry.number] for entry in entries if not entry.restores]:
        chart.paths.append(("sign broken", signs(((x, y - 16) for x, y in _thin(broken)), _CROSS)))
        chart.legend.append(("broken", "does not restore"))
    mean = sum(sizes) // len(sizes)
    chart.about = (
        f"{_plural(len(entries), 'version')}, of which {len(fulls)} full, {' to '.join(across.ends)}; "
        f"the largest takes {size(max(sizes))}, the mean is {size(mean)}. "
        f"{_plural(len(held), 'version')} kept by hand, {len(broken)} that do not restore."
    )
    return chart


def sizes(entries: Sequence[Entry], across: Horizontal, free: int) -> Chart:
    """Return the size of the volume, and of all versions that there are now, when each was made."""
    chart = Chart("Volume and archive")
    total, stored, volume = 0, [], []
    for entry in entries:
        total += entry.stored
        stored.append(total)
        volume.append(entry.blocks * entry.block_size if entry.size is None else entry.size)
    end, ticks = byte_ticks(max(*stored, *volume))
    scale = Vertical(end)
    grid(chart, scale, ticks)
    chart.labels += across.labels()
    places = [across.places[entry.number] for entry in entries]
    if len(entries) > 1:
        line, around = (
            steps(_last([(x, scale.of(value)) for x, value in zip(places, some, strict=True)]))
            for some in (stored, volume)
        )
        chart.paths.append(("area", f"{line}V{BOTTOM}H{places[0]}z"))
        chart.paths.append(("volume", around))
    else:
        chart.paths.append(("bar full", bars([(places[0] - 20, scale.of(stored[0]))])))
        chart.paths.append(("bar", bars([(places[0] + 20, scale.of(volume[0]))])))
    chart.legend = [("line", f"archive {size(total)}"), ("volume", f"volume {size(volume[-1])}")]
    chart.about = (
        f"The volume had {size(volume[0])} at first and has {size(volume[-1])} now; the versions that there are "
        f"take {size(total)} together. {size(free)} are free on the file system."
    )
    return chart


def changes(found: ChangeMap) -> Chart:
    """Return the change map: the volume from left to right, versions from top to bottom, the newest at the top."""
    rows = found.rows[::-1]
    image_height = min(BOTTOM - TOP, 24 * len(rows))
    chart = Chart("What changed where", "newest on top", image_height=image_height)
    chart.height = TOP + image_height + 38
    picture = png.encode([[_level(part) for part in row.parts] for row in rows], _PALETTE)
    chart.image = base64.b64encode(picture).decode("ascii")
    chart.labels.append(Label(LEFT - 8, TOP + 15, f"v {rows[0].number}", "e"))
    if len(rows) > 2:
        chart.labels.append(Label(LEFT - 8, TOP + image_height - 4, f"v {rows[-1].number}", "e"))
    chart.labels.append(Label(LEFT, TOP + image_height + 28, "0", "s"))
    chart.labels.append(Label(RIGHT, TOP + image_height + 28, size(found.blocks * found.block_size), "e"))
    chart.legend = [("none", "nothing"), ("some", "some"), ("all", "all changed")]
    if any(part is None for row in rows for part in row.parts):
        chart.legend.append(("outside", "beyond its end"))
    shares = {row.number: row.changed / row.blocks if row.blocks else 0.0 for row in rows}
    most = max(shares, key=lambda number: shares[number])
    chart.about = (
        f"The volume from left to right, versions {rows[-1].number} to {rows[0].number} from bottom to top. "
        f"From version to version {sum(shares.values()) / len(shares):.1%} of the blocks changed in the mean, "
        f"most in version {most}: {shares[most]:.1%}."
    )
    return chart


def _level(part: float | None) -> int:
    if part == 0:  # as nearly always
        return 0
    return _OUTSIDE if part is None else bisect.bisect_left(_LEVELS, part)


def locks(entries: Sequence[Entry], across: Horizontal) -> Chart | None:
    """Return the time under lock and the fill of the snapshot; None if no manifest has any of them."""
    held = [(across.places[entry.number], entry.lock_s * 1000) for entry in entries if entry.lock_s is not None]
    fill = [(across.places[entry.number], entry.fill) for entry in entries if entry.fill is not None]
    if not held and not fill:
        return None
    chart = Chart("Lock and snapshot")
    middle = (TOP + BOTTOM) // 2
    panels = [
        panel for panel in ((held, "ms", "lock", "under lock"), (fill, "%", "fill", "snapshot used")) if panel[0]
    ]
    for place, (points, unit, kind, what) in enumerate(panels):
        top = middle + 16 if place else TOP
        bottom = middle - 16 if len(panels) > 1 and not place else BOTTOM
        end, ticks = plain_ticks(max(value for _, value in points), unit)
        scale = Vertical(end, top=top, bottom=bottom)
        grid(chart, scale, ticks[:: 2 if len(panels) > 1 else 1])
        chart.paths.append((f"bar {kind}", bars(_thin((x, scale.of(value)) for x, value in points), bottom)))
        most = max(value for _, value in points)
        chart.legend.append((kind, f"{what}, at most {math.ceil(most)} {unit}"))
        chart.about += f"{what}: at most {most:.1f} {unit}, last {points[-1][1]:.1f} {unit}. "
    chart.labels += across.labels()
    return chart


def of_set(
    entries: Sequence[Entry],
    times: Sequence[datetime | None],
    pinned: frozenset[int],
    found: ChangeMap | None,
    free: int,
    now: datetime,
) -> list[Chart]:
    """Return all charts for which there are data."""
    if not entries:
        return []
    across = Horizontal([entry.number for entry in entries], times, now)
    out = [versions(entries, across, pinned)]
    if found is not None:
        out.append(changes(found))
    out.append(sizes(entries, across, free))
    more = locks(entries, across)
    return [*out, more] if more is not None else out
