"""Make a page of sets for those who would rather look: what a check finds, and charts of each set.

Sets are looked at by several processes, since most of the time goes into reading manifests.
"""

import contextlib
import dataclasses
import functools
import multiprocessing
import multiprocessing.connection
import os
import signal
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from multiprocessing.connection import Connection

from blockdiff import __version__
from blockdiff.blocks import changemap
from blockdiff.errors import BlockdiffError
from blockdiff.page import charts, render, values
from blockdiff.place import choose
from blockdiff.place.base import PLAIN, Access
from blockdiff.printable import size
from blockdiff.sets import health
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.catalogue import Found, Listed, find
from blockdiff.sets.checked import Checked, rooms

_FORK = multiprocessing.get_context("fork")
_FEW = 4  # sets, for which starting processes takes longer than it saves

Look = Callable[[Found], Checked]  # what is found of one set
Section = tuple[Checked, str]  # of one set, without its versions, and the HTML of its section
Work = Callable[[int, Found], Section]  # the number of the set on the page
Judge = Callable[[Iterable[Checked]], list[Checked]]  # all of them, the worst first


def report(
    operands: Iterable[str], look: Look, judge: Judge, *, title: str, now: datetime, maps: int, jobs: int,
    access: Access = PLAIN,
) -> str:  # fmt: skip
    """Return the page of each set that is named, or is in a folder that is named.

    `now`: in the zone that the page's times are in; `maps`: so many of the newest versions are in change maps;
    `jobs`: processes.
    """
    found = find(operands, access)
    work = functools.partial(_section, look, maps, now)
    done = _spread(work, found, jobs if len(found) > _FEW else 1)
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


def _spread(work: Work, found: Sequence[Found], jobs: int) -> list[Section]:
    """Return what `work` makes of each set, by so many processes; what they do not make is made here."""
    done: dict[int, Section] = {}
    local = [number for number, each in enumerate(found) if not choose.in_store(each.name)]
    with contextlib.ExitStack() as stack:
        readers: list[Connection] = []
        for first in range(jobs if jobs > 1 else 0):
            reader, writer = _FORK.Pipe(duplex=False)
            stack.callback(reader.close)
            numbers = local[first::jobs]  # a connection to a store is not shared
            process = _FORK.Process(target=_some, args=(work, found, numbers, reader, writer), daemon=True)
            process.start()
            writer.close()
            stack.callback(process.join)
            stack.callback(process.terminate)
            readers.append(reader)
        while readers:
            for ready in multiprocessing.connection.wait(readers):
                assert isinstance(ready, Connection)
                try:
                    number, section = ready.recv()
                except EOFError:
                    readers.remove(ready)
                else:
                    done[number] = section
    return [done[number] if number in done else work(number, each) for number, each in enumerate(found)]


def _some(
    work: Work, found: Sequence[Found], numbers: Iterable[int], reader: Connection, writer: Connection
) -> None:
    """Send what `work` makes of some of the sets; ends when nobody reads it any more."""
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.SIG_DFL)
    reader.close()
    with contextlib.suppress(BrokenPipeError):
        for number in numbers:
            writer.send((number, work(number, found[number])))


def _section(look: Look, maps: int, now: datetime, number: int, found: Found) -> Section:
    checked = look(found)
    entries = [entry for entry in checked.listed.versions if entry.number <= checked.newest]
    try:
        backup_set = BackupSet(checked.name, found.access)
        changes = changemap.change_map(backup_set, entries, maps) if entries and maps else None
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
