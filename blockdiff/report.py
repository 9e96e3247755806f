"""Make a page of sets for those who would rather look: what a check finds, and charts of each set.

Sets are looked at by several processes, since most of the time goes into reading manifests.
"""

import contextlib
import dataclasses
import functools
import multiprocessing
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime

from blockdiff import __version__
from blockdiff.blocks import changemap
from blockdiff.errors import BlockdiffError
from blockdiff.page import charts, render, values
from blockdiff.printable import size
from blockdiff.sets import health
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.catalogue import Found, Listed, find
from blockdiff.sets.checked import Checked, rooms

_FEW = 4  # sets, for which starting processes takes longer than it saves

Look = Callable[[Found], Checked]  # what is found of one set
Judge = Callable[[Iterable[Checked]], list[Checked]]  # all of them, the worst first


def report(
    operands: Iterable[str], look: Look, judge: Judge, *, title: str, now: datetime, maps: int, jobs: int
) -> str:
    """Return the page of each set that is named, or is in a folder that is named.

    `now`: in the zone that the page's times are in; `maps`: so many of the newest versions are in change maps;
    `jobs`: processes, which take over `look`, so it can be pickled.
    """
    found = find(operands)
    work = functools.partial(_section, look, maps, now)
    with contextlib.ExitStack() as stack:
        if jobs > 1 and len(found) > _FEW:
            pool = ProcessPoolExecutor(min(jobs, len(found)), multiprocessing.get_context("fork"))
            stack.callback(pool.shutdown, cancel_futures=True)
            done = list(pool.map(work, range(len(found)), found, chunksize=1))
        else:
            done = list(map(work, range(len(found)), found))
    numbers = {id(checked): number for number, (checked, _) in enumerate(done)}
    sets = judge([checked for checked, _ in done])
    return render.page(
        {number: body for number, (_, body) in enumerate(done)},
        title=title,
        headline=values.headline(sets),
        now=f"{now:%a %-d %b %Y, %H:%M}",
        zone=_zone(now),
        tiles=_tiles(sets),
        sets=[values.fleet(each, numbers[id(each)], now) for each in sets],
        spaces=_spaces(sets, now),
        program=__version__,
    )


def _section(look: Look, maps: int, now: datetime, number: int, found: Found) -> tuple[Checked, str]:
    """Return what is found of a set, without its versions, and the HTML of its section."""
    checked = look(found)
    entries = [entry for entry in checked.listed.versions if entry.number <= checked.newest]
    try:
        changes = changemap.change_map(BackupSet(checked.name), entries, maps) if entries and maps else None
    except BlockdiffError:
        changes = None  # its folder is gone, which is among the findings
    times = [values.moment(entry.begun, now.tzinfo) for entry in entries]
    unit, factor = values.unit_of(entries)
    body = render.body(
        values.Body(
            number=number,
            label=checked.name,
            facts=values.facts(checked, now.tzinfo),
            charts=charts.of_set(entries, times, checked.listed.pinned, changes, checked.free, now),
            count=len(checked.listed.versions),
            unit=unit,
            rows=list(values.rows(checked, factor, now)),
        )
    )
    return dataclasses.replace(checked, listed=Listed(checked.name), proofs={}, damage={}), body


def _zone(now: datetime) -> str:
    offset = now.strftime("%z")
    name = now.strftime("%Z")
    return name if name == "UTC" else f"{name} (UTC{offset[:3]}:{offset[3:5]})"


def _tiles(sets: Sequence[Checked]) -> list[tuple[str, str, str]]:
    """Return the figures of all sets: word, value, and what is added to it."""
    a_day = sum(each.a_day for each in sets)
    ages = [each.age for each in sets if each.age is not None]
    left = next((room.left_s for room in rooms(sets)), None)
    proved, all_points = sum(each.proved for each in sets), sum(each.points for each in sets)
    return [
        ("sets", str(len(sets)), f"{sum(each.running for each in sets)} running now" if sets else ""),
        ("restore points", f"{all_points:,}", f"{proved:,} versions proved"),
        ("stored", size(sum(each.stored for each in sets)), f"{size(round(a_day))} a day"),
        ("longest without a backup", health.span(max(ages)) if ages else "-", ""),
        ("disk full in", values.ago(left) if left is not None and left < 3650 * 86400 else "years", "at this rate"),
    ]


def _spaces(sets: Sequence[Checked], now: datetime) -> list[dict[str, object]]:
    out = []
    for room in rooms(sets):
        folders = sorted({os.path.dirname(each.name) or "." for each in room.sets})
        total = 0
        with contextlib.suppress(OSError):
            found = os.statvfs(folders[0])
            total = found.f_blocks * found.f_frsize
        more = f" and {len(folders) - 1} more folders" if len(folders) > 1 else ""
        out.append(values.space(room, total, folders[0] + more, now))
    return out
