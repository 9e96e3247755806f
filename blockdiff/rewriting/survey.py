"""What a prune finds in a set: its versions, which of them stay and why, and what it does with the others.

A version that does not restore counts for no rule.  It goes with those that no rule keeps, unless a
rule would keep it if it did restore: then nothing is removed until somebody has looked at it.
"""

import contextlib
import datetime
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from blockdiff.blocks import overlap
from blockdiff.errors import BlockdiffError, ChainBroken, ForeignFiles, NoSuchVersion, StoreUnreadable
from blockdiff.place import choose
from blockdiff.rewriting import retained
from blockdiff.sets import catalogue, chain, pruning, signatures, versions
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.pruning import Link
from blockdiff.sets.retention import Point, Rules, Untrusted, check_times
from blockdiff.sets.signatures import Signing
from blockdiff.sets.verified import Damage

Local = Callable[[datetime.datetime], datetime.datetime]  # brings a time into the zone of the calendar

KEPT = "nothing was removed; blockdiff-verify lists what is lost and which versions still restore"
_FOUND = "nothing was removed; put right what is damaged and run blockdiff-verify, which notes what it finds"


@dataclass(frozen=True)
class Wanted:
    """What is asked for."""

    rules: Rules
    exact: bool = False  # also what does not pay
    max_chain: int = pruning.MAX_CHAIN
    wait_s: float = 0.0  # for the set's lock
    signing: Signing | None = None  # signs versions that are signed and rewritten


@dataclass(frozen=True)
class Survey:
    """One set as it is, and what is to be done."""

    entries: tuple[catalogue.Entry, ...]
    stay: Mapping[int, Sequence[str]]  # why, by number
    plan: pruning.Plan

    @property
    def stored(self) -> int:
        """Bytes of all its files."""
        return sum(entry.stored for entry in self.entries)


def survey(
    backup_set: BackupSet,
    wanted: Wanted,
    now: datetime.datetime,
    local: Local,
    also: Collection[int] = (),
    damage: Mapping[int, Damage] = {},
) -> Survey:
    """Return what a set has and what is to be done with it; only small files and samples of digests are read.

    `also`: versions that stay, for other sets' sake; `damage`: of versions, as a verify found it.
    Raises BlockdiffError if the set or its times are of no use, if what stays needs what is damaged, or if
    a version that is signed would be rewritten without a signature.
    """
    entries = _entries(backup_set)
    points = _points(backup_set, entries)
    _check(backup_set, points, wanted, now)
    stay = wanted.rules.keep(points, local)
    elsewhere = _elsewhere(backup_set, entries)
    plain = replace(wanted.rules, numbers=frozenset())
    if_whole = plain.keep([replace(point, restores=True, pinned=False) for point in points], local)
    for entry in entries:
        if entry.number in if_whole and not entry.restores and entry.number not in elsewhere:
            _refuse(backup_set, entry)
        if entry.number in also:
            stay.setdefault(entry.number, ["another set's version of this moment stays"])
        if entry.number in elsewhere:
            stay.setdefault(entry.number, []).append(elsewhere[entry.number])
    parents = {entry.number: _parent(backup_set, entry) for entry in entries}
    for entry in reversed(entries):  # what does not restore cannot be rewritten
        parent = parents[entry.number]
        if entry.number in stay and not entry.restores and parent in parents:
            assert parent is not None
            stay.setdefault(parent, [f"version {entry.number} needs it and does not restore"])
    _check_damage(backup_set, stay, parents, damage)
    links = [Link(e.number, parents[e.number], e.diff, e.stored - e.diff) for e in entries]
    sizes = {link.number: link.diff for link in links}

    def estimate(onto: int | None, path: tuple[int, ...]) -> int:
        return round(sum(sizes[number] for number in path) * overlap.share(backup_set, onto, path))

    plan = pruning.plan(links, stay.keys(), estimate, exact=wanted.exact, max_chain=wanted.max_chain)
    if choose.in_store(backup_set.folder):  # it cannot replace the files of a version at one moment
        stored = {entry.number: entry.stored for entry in entries}
        plan = retained.hold(backup_set, plan.without_rewrites(), stored, now.timestamp())
    rewritten = [rewrite.number for group in plan.go for rewrite in group.rewrites]
    signatures.refuse_loss(backup_set.name, backup_set.listing(), rewritten, wanted.signing)
    return Survey(tuple(entries), stay, plan)


def together(
    sets: Sequence[BackupSet], wanted: Wanted, now: datetime.datetime, local: Local
) -> dict[str, frozenset[int]]:
    """Return which versions of each set stay so that sets of one moment keep it or lose it together.

    A moment counts for the rules only where it restores in every set; what stays in one set for
    a rule stays in all.  Raises as `survey` does.
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
        _check(backup_set, points, wanted, now)
        keep = wanted.rules.keep(points, local).keys()
        moments |= {entry.moment for entry in entries if entry.number in keep} & whole
        stay[backup_set.name] = frozenset(keep)
    return {
        name: numbers | {entry.number for entry in known[name] if entry.moment in moments}
        for name, numbers in stay.items()
    }


def _entries(backup_set: BackupSet) -> list[catalogue.Entry]:
    """Return the published versions; raises BlockdiffError if the newest does not restore."""
    listed = catalogue.describe(backup_set)
    if listed.problems:
        raise listed.problems[0]
    entries = [entry for entry in listed.versions if entry.number <= listed.newest]
    if not entries[-1].restores:
        _refuse(backup_set, entries[-1])
    return entries


def _refuse(backup_set: BackupSet, entry: catalogue.Entry) -> None:
    """Raise why a version does not restore."""
    try:
        for version in chain.chain_of(backup_set, entry.number, backup_set.listing(), deep=False):
            versions.check_size(backup_set, version)
        raise ChainBroken(entry.number, backup_set.name, entry.why)
    except BlockdiffError as error:
        error.hint = error.hint or KEPT
        raise


def _check_damage(
    backup_set: BackupSet, stay: Collection[int], parents: Mapping[int, int | None], damage: Mapping[int, Damage]
) -> None:
    """Raise ChainBroken if a verify found damage in what a version that stays needs."""
    for number in sorted(stay):
        at: int | None = number
        while at is not None:
            if at in damage:
                where = "" if at == number else f"version {at}: "
                raise ChainBroken(number, backup_set.name, f"a verify found {where}{damage[at].what}", hint=_FOUND)
            at = parents.get(at)


def _points(backup_set: BackupSet, entries: Sequence[catalogue.Entry]) -> list[Point]:
    """Return the versions as the rules see them; one whose time is not known has that of the one before."""
    pinned = backup_set.listing().pinned
    times = [_time(entry) for entry in entries]
    known = [time for time in times if time is not None]
    filled = itertools.accumulate(times, lambda before, time: time or before, initial=known[0] if known else None)
    return [
        Point(e.number, time, restores=e.restores, pinned=e.number in pinned, recorded=e.recorded)
        for e, time in zip(entries, list(filled)[1:], strict=True)
        if time is not None
    ]


def _time(entry: catalogue.Entry) -> datetime.datetime | None:
    try:
        found = datetime.datetime.fromisoformat(entry.begun)
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=datetime.UTC)


def _check(backup_set: BackupSet, points: Sequence[Point], wanted: Wanted, now: datetime.datetime) -> None:
    """Raise NoSuchVersion or ForeignFiles if the rules cannot be applied to a set."""
    for number in sorted(wanted.rules.numbers - {point.number for point in points}):
        raise NoSuchVersion(backup_set.name, number)
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
    """Return the versions of chains of which a file is not here, and why they stay: nothing of them can be proved.

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
            try:
                versions.version(backup_set, entry.number, listing, deep=False)
            except StoreUnreadable:
                raise
            except BlockdiffError:
                continue
    return {number: why[first] for number, first in root.items() if first in why}
