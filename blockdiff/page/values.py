"""What the page says of sets, as text: facts, rows of tables, space."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from blockdiff.page.axes import Chart
from blockdiff.printable import name, size
from blockdiff.sets import health
from blockdiff.sets.catalogue import Entry
from blockdiff.sets.checked import Checked, Room
from blockdiff.sets.health import State

_MOST_DAYS = 3650  # a forecast beyond it says nothing
_MANY = 60  # rows of a table that has a heading for each month, and not for each year
_ABOVE = ("unknown", "warning", "critical")
WORDS = {State.OK: "OK", State.WARNING: "Warning", State.CRITICAL: "Critical", State.UNKNOWN: "Unknown"}


@dataclass(frozen=True)
class Body:
    """What the section of a set has below its heading."""

    number: int  # of the set on the page
    label: str  # its name
    facts: list[tuple[str, str]]
    charts: list[Chart]
    count: int  # versions
    unit: str
    rows: list[tuple[Any, ...]]

    @property
    def remarks(self) -> bool:
        """Whether a row has a remark."""
        return any(len(row) > 1 and row[-1] for row in self.rows)


def moment(time: str, zone: tzinfo | None) -> datetime | None:
    """Return a time of a manifest in the page's zone, None if it is none."""
    try:
        found = datetime.fromisoformat(time)
        return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).astimezone(zone)
    except (ValueError, OverflowError):
        return None


def shown(time: str, zone: tzinfo | None, form: str = "%-d %b %Y %H:%M") -> str:
    """Return a time as the page has it; text that is no time stays as it is."""
    found = moment(time, zone)
    return name(time) if found is None else found.strftime(form)


def ago(seconds: float) -> str:
    """Return how long ago something was, in one unit."""
    seconds = max(seconds, 0)
    return f"{int(seconds // 86400)} d" if seconds >= 86400 else health.span(seconds)


def facts(checked: Checked, zone: tzinfo | None) -> list[tuple[str, str]]:
    """Return what the page says of a set beside its charts: pairs of word and value."""
    entries = [entry for entry in checked.listed.versions if entry.number <= checked.newest]
    if not entries:
        return []
    newest = entries[-1]
    volume = newest.size if newest.size is not None else newest.blocks * newest.block_size
    changed = "not known" if newest.changed is None else size(min(newest.changed * newest.block_size, volume))
    found = [
        ("newest version", f"{newest.number}, {newest.kind or 'not readable'}"),
        ("begun", shown(newest.begun, zone)),
        ("took", "not known" if checked.seconds is None else f"{checked.seconds:.0f} s"),
        ("changed", changed),
        ("volume", size(volume)),
        ("blocks", size(newest.block_size).replace(".0 ", " ")),
        ("consistency", newest.consistency or "not known"),
    ]
    return [*found, ("next version", "is being made")] if checked.running else found


def fleet(checked: Checked, number: int, now: datetime) -> dict[str, Any]:
    """Return the row of a set in the table of all."""
    oldest = "" if checked.oldest_proof is None else f"within {ago(now.timestamp() - checked.oldest_proof)}"
    never = f"{checked.versions - checked.proved} not proved" if checked.proved else "never"
    return {
        "number": number,
        "state": checked.state.name.lower(),
        "word": WORDS[checked.state],
        "name": checked.name,
        "source": checked.source,
        "findings": [(finding.state.name.lower(), finding.text) for finding in checked.findings],
        "newest": checked.newest,
        "age": "" if checked.age is None else health.span(max(checked.age, 0)),
        "points": checked.points,
        "back_to": shown(checked.back_to, now.tzinfo, "%-d %b %Y") if checked.back_to else "",
        "stored": size(checked.stored),
        "a_day": size(round(checked.a_day)),
        "proved": f"{checked.proved}/{checked.versions}",
        "proof": oldest or never,
        "run": "running" if checked.running else "" if checked.seconds is None else f"{checked.seconds:.0f} s",
    }


def space(room: Room, total: int, folder: str, now: datetime) -> dict[str, Any]:
    """Return what is said of a file system of `total` bytes: when it is full at this rate."""
    full, left = "never at this rate", room.left_s
    if left is not None:
        far = left > _MOST_DAYS * 86400
        when = "" if far else f"{now + timedelta(seconds=left):%-d %b %Y}"
        full = "not within 10 years" if far else f"in {ago(left)}, on {when}"
    return {
        "folder": folder,
        "sets": len(room.sets),
        "free": size(room.free),
        "total": size(total),
        "share": round((total - room.free) / total * 100) if total else 0,
        "a_day": size(round(room.a_day)),
        "full": full,
        "soon": left is not None and left < 30 * 86400,
    }


def unit_of(entries: Sequence[Entry]) -> tuple[str, int]:
    """Return the unit of a column with the bytes that these versions take, and its size in bytes."""
    middle = sorted(entry.stored for entry in entries)[len(entries) // 2] if entries else 0
    power = next((power for power in (4, 3, 2) if middle >= 1024**power), 1)
    return ("KiB", "MiB", "GiB", "TiB")[power - 1], 1024**power


def rows(checked: Checked, unit: int, now: datetime) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of the table of versions, the newest first: (text,) for a heading, or the cells."""
    entries = checked.listed.versions
    heading, day = ("%B %Y", "%-d") if len(entries) > _MANY else ("%Y", "%-d %b")
    last, above = "", 0
    dropping = set(checked.listed.dropping)
    for entry in reversed(entries):
        if above > entry.number + 1:
            yield (_gone(entry.number + 1, above - 1, dropping),)
        above = entry.number
        found = moment(entry.begun, now.tzinfo)
        if found is not None and (text := found.strftime(heading)) != last:
            last = text
            yield (text,)
        yield (
            entry.number,
            _kind(entry),
            name(entry.begun) if found is None else found.strftime(f"{day} %H:%M"),
            f"{entry.stored / unit:,.1f}",
            _proof(entry.number, checked, now),
            _remark(entry, checked),
        )
    if above > 1:
        yield (_gone(1, above - 1, dropping),)


def _gone(first: int, last: int, dropping: set[int]) -> str:
    what = "being removed" if dropping & set(range(first, last + 1)) else "removed"
    return f"version {first} {what}" if first == last else f"versions {first} to {last} {what}"


def _proof(number: int, checked: Checked, now: datetime) -> str:
    if number in checked.damage:
        return f"failed, {ago(now.timestamp() - checked.damage[number].at)}"
    return ago(now.timestamp() - checked.proofs[number]) if number in checked.proofs else "never"


def _kind(entry: Entry) -> str:
    if entry.parent is None:
        return entry.kind or "?"
    return "" if entry.parent == entry.number - 1 else f"on {entry.parent}"


def _remark(entry: Entry, checked: Checked) -> str:
    parts = ["" if entry.restores else "does not restore", name(entry.why)]
    parts.append("kept by hand" if entry.number in checked.listed.pinned else "")
    parts.append("rewritten" if entry.rewritten else "")
    parts.append("not published" if checked.newest and entry.number > checked.newest and not entry.why else "")
    return "; ".join(filter(None, parts))


def headline(sets: Sequence[Checked]) -> tuple[str, str]:
    """Return the class and the text of the first line: how the fleet is."""
    many = {word: sum(each.state.name.lower() == word for each in sets) for word in _ABOVE}
    bad = sum(many.values())
    worst = next((word for word in reversed(_ABOVE) if many[word]), "ok")
    if not sets:
        return "unknown", "No sets"
    if not bad:
        return "ok", "The set is well" if len(sets) == 1 else f"All {len(sets)} sets are well"
    of = f"{bad} of {len(sets)} sets" if len(sets) > 1 else "The set"
    return worst, f"{of} {'needs' if bad == 1 else 'need'} attention"
