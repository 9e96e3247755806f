"""What a prune finds in a set: its versions, which of them stay and why, and what is to be done with the others."""

import contextlib
import datetime
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from blockdiff.blocks import overlap
from blockdiff.errors import BlockdiffError, ChainBroken, ForeignFiles, StoreUnreadable
from blockdiff.sets import catalogue, chain, pruning, versions
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.pruning import Link
from blockdiff.sets.retention import Point, Rules, Untrusted, check_times

Local = Callable[[datetime.datetime], datetime.datetime]  # brings a time into the zone of the calendar


@dataclass(frozen=True)
class Wanted:
    """What is asked for."""

    rules: Rules
    exact: bool = False  # also what does not pay
    max_chain: int = pruning.MAX_CHAIN
    wait_s: float = 0.0  # for the set's lock


@dataclass(frozen=True)
class Survey:
    """One set as it is, and what is to be done."""

    entries: tuple[catalogue.Entry, ...]
    stay: Mapping[int, Sequence[str]]
    plan: pruning.Plan

    def restores(self, number: int) -> bool:
        """Return whether a version restores as far as names, sizes and manifests show."""
        return any(entry.number == number and entry.restores for entry in self.entries)


def together(
    sets: Iterable[BackupSet],
    wanted: Wanted,
    now: datetime.datetime,
    local: Local,
) -> dict[str, frozenset[int]]:
    """Return which versions of each set stay so that sets of one moment keep or lose it together.

    A moment counts for the rules only where it restores in every set; what stays in one set for
    a rule stays in all.  Raises as `plan` does.
    """
    known = {backup_set.name: _entries(backup_set) for backup_set in sets}
    good = [{entry.moment for entry in entries if entry.moment and entry.restores} for entries in known.values()]
    whole = set[str]().union(*good).intersection(*good)
    stay: dict[str, frozenset[int]] = {}
    moments: set[str] = set()
    for backup_set in sets:
        entries = known[backup_set.name]
        points = [
            point if entry.moment in whole or not entry.moment else replace(point, restores=False)
            for point, entry in zip(_points(backup_set, entries), entries, strict=True)
        ]
        _check_times(backup_set, points, wanted, now)
        keep = wanted.rules.keep(points, local).keys()
        moments |= {entry.moment for entry in entries if entry.number in keep} & whole
        stay[backup_set.name] = frozenset(keep)
    return {
        name: numbers | {entry.number for entry in known[name] if entry.moment in moments}
        for name, numbers in stay.items()
    }


def survey(
    backup_set: BackupSet,
    wanted: Wanted,
    now: datetime.datetime,
    local: Local,
    also: Collection[int] = (),
) -> Survey:
    """Return what a prune of a set has to do.

    `also`: versions that stay, for other sets' sake.  Raises BlockdiffError if the newest version
    does not restore, or the times of the versions are of no use to rules that need them.
    """
    entries = _entries(backup_set)
    points = _points(backup_set, entries)
    _check_times(backup_set, points, wanted, now)
    stay = dict(wanted.rules.keep(points, local))
    for entry in entries:
        if entry.number in also:
            stay.setdefault(entry.number, ["another set's version of this moment stays"])
    for number, why in _elsewhere(backup_set, entries).items():
        stay.setdefault(number, []).append(why)
    links = [Link(e.number, _parent(backup_set, e), e.diff, e.stored - e.diff) for e in entries]
    sizes = {link.number: link.diff for link in links}

    def estimate(onto: int | None, path: tuple[int, ...]) -> int:
        return round(sum(sizes[number] for number in path) * overlap.share(backup_set, onto, path))

    found = pruning.plan(links, stay.keys(), estimate, exact=wanted.exact, max_chain=wanted.max_chain)
    return Survey(tuple(entries), stay, found)


def _entries(backup_set: BackupSet) -> list[catalogue.Entry]:
    """Return the published versions; raises BlockdiffError if the newest does not restore."""
    listed = catalogue.describe(backup_set)
    if listed.problems:
        raise listed.problems[0]
    entries = [entry for entry in listed.versions if entry.number <= listed.newest]
    newest = entries[-1]
    if not newest.restores:
        listing = backup_set.listing()
        for version in chain.chain_of(backup_set, newest.number, listing, deep=False):
            versions.check_size(backup_set, version)
        raise ChainBroken(newest.number, backup_set.name, newest.why)
    return entries


def _points(backup_set: BackupSet, entries: Sequence[catalogue.Entry]) -> list[Point]:
    pinned = backup_set.listing().pinned
    return [
        Point(e.number, _time(e), restores=e.restores, pinned=e.number in pinned, recorded=e.recorded)
        for e in entries
    ]


def _time(entry: catalogue.Entry) -> datetime.datetime:
    try:
        found = datetime.datetime.fromisoformat(entry.begun)
    except ValueError:
        return datetime.datetime.min.replace(tzinfo=datetime.UTC)  # of what does not restore
    return found if found.tzinfo is not None else found.replace(tzinfo=datetime.UTC)


def _check_times(backup_set: BackupSet, points: Sequence[Point], wanted: Wanted, now: datetime.datetime) -> None:
    if not wanted.rules.need_times:
        return
    try:
        check_times([point for point in points if point.restores], now)
    except Untrusted as error:
        why = f"{backup_set.name}: the times of its versions are of no use: {error}"
        raise ForeignFiles(why, hint="--keep-last does not need times") from None


def _parent(backup_set: BackupSet, entry: catalogue.Entry) -> int | None:
    """Return which version one continues, also where its files are damaged."""
    if entry.kind:
        return entry.parent
    with contextlib.suppress(ValueError, OSError):
        return backup_set.read_manifest(entry.number).parent
    return entry.number - 1 or None


def _elsewhere(backup_set: BackupSet, entries: Sequence[catalogue.Entry]) -> dict[int, str]:
    """Return the versions of chains of which a diff file is not here: nothing of those can be proved.

    Raises StoreUnreadable if it is not known what a version is.
    """
    listing = backup_set.listing()
    parents = {entry.number: _parent(backup_set, entry) for entry in entries}
    root: dict[int, int] = {}
    why: dict[int, str] = {}
    for entry in entries:
        parent = parents[entry.number]
        root[entry.number] = entry.number if parent is None else root.get(parent, parent)
        if parent is not None and parent not in parents:
            why[root[entry.number]] = f"version {parent} is not here"
        elif entry.kind == "" and not listing.diffs(entry.number):
            why[root[entry.number]] = f"the diff file of version {entry.number} is not here"
        elif entry.kind == "":
            with contextlib.suppress(BlockdiffError):
                versions.version(backup_set, entry.number, listing, deep=False)
            _raise_unreadable(backup_set, entry.number)
    return {number: why[first] for number, first in root.items() if first in why}


def _raise_unreadable(backup_set: BackupSet, number: int) -> None:
    try:
        versions.version(backup_set, number, backup_set.listing(), deep=False)
    except StoreUnreadable:
        raise
    except BlockdiffError:
        return
