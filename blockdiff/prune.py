"""Remove the versions of a set that no rule keeps.

Nothing goes before everything that stays is proved, now or not long ago.  A version that stays and
needs one that goes is rewritten first, without the lock; the lock is held only while the new files
get their names and the others lose theirs.  So a backup never waits for more than that, and a run
that is killed anywhere leaves a set whose staying versions restore.
"""

import contextlib
import datetime
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from blockdiff.blocks import overlap
from blockdiff.blocks.parallel import Progress, silent
from blockdiff.errors import BlockdiffError, ChainBroken, ForeignFiles, SetChanged, StoreUnreadable
from blockdiff.printable import Log
from blockdiff.rewriting import draft
from blockdiff.rewriting.plan import identity
from blockdiff.sets import catalogue, chain, drop, pruning, recover, verified, versions
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.pruning import Group, Link
from blockdiff.sets.retention import Point, Rules, Untrusted, check_times

PROOF_S = 35 * 24 * 3600  # how old a proof may be


class Proved(Protocol):
    """What a verify found of one version."""

    number: int
    restores: bool
    before: bool
    proof: verified.Proof | None
    faults: list[BlockdiffError]


# verify a set: given the proofs that are good enough, and when to stop; returns what it found of each version
Prove = Callable[[Mapping[int, verified.Proof], Callable[[], bool]], Sequence[Proved]]


@dataclass(frozen=True)
class Wanted:
    """What is asked for."""

    rules: Rules
    exact: bool = False  # also what does not pay
    max_chain: int = pruning.MAX_CHAIN
    wait_s: float = 0.0  # for the set's lock


@dataclass(frozen=True)
class Row:
    """One version, or several that go or are held together."""

    first: int
    last: int
    time: str  # of the first, ISO 8601
    kind: str
    stored: int  # bytes
    plan: str  # "stay", "go" or "held"
    why: str
    frees: int = 0  # bytes that it would free, and write, if it is held; of its whole group
    writes: int = 0


@dataclass
class Pruned:
    """What was done with one set, or would be; sizes in bytes."""

    name: str
    stored: int  # before
    rows: list[Row] = field(default_factory=list)
    stay: int = 0
    go: int = 0
    held: int = 0
    frees: int = 0  # net; estimated in a dry run, and what was freed otherwise
    reads: int = 0  # of diff files that are rewritten
    writes: int = 0
    proved: int = 0  # versions that were read and proved now
    warnings: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0, or 3 if there are warnings."""
        return 3 if self.warnings else 0


@dataclass(frozen=True)
class _Seen:
    """One set as it is, and what is to be done."""

    entries: tuple[catalogue.Entry, ...]
    stay: Mapping[int, Sequence[str]]
    plan: pruning.Plan

    @property
    def newest(self) -> int:
        return self.entries[-1].number


def plan(
    backup_set: BackupSet,
    wanted: Wanted,
    now: datetime.datetime,
    local: Callable[[datetime.datetime], datetime.datetime],
    also: Collection[int] = (),
) -> Pruned:
    """Return what a prune would do; nothing is locked or written.

    `local` brings a time into the calendar's zone; `also`: versions that stay, for other sets' sake.
    Raises BlockdiffError if the set is of no use, or its times are.
    """
    seen = _look(backup_set, wanted, now, local, also)
    out = Pruned(backup_set.name, sum(entry.stored for entry in seen.entries))
    out.frees = sum(group.frees for group in seen.plan.go)
    out.writes = sum(group.writes for group in seen.plan.go)
    sizes = {entry.number: entry.diff for entry in seen.entries}
    out.reads = sum(sizes[n] for group in seen.plan.go for rewrite in group.rewrites for n in rewrite.path)
    _fill(out, seen, seen.plan)
    return out


def together(
    sets: Iterable[BackupSet],
    wanted: Wanted,
    now: datetime.datetime,
    local: Callable[[datetime.datetime], datetime.datetime],
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


def prune(
    backup_set: BackupSet,
    wanted: Wanted,
    prove: Prove,
    *,
    known: Mapping[int, verified.Proof],
    save: Callable[[Mapping[int, verified.Proof]], object],
    now: datetime.datetime,
    local: Callable[[datetime.datetime], datetime.datetime],
    also: Collection[int] = (),
    over: Callable[[], bool] = lambda: False,
    threads: int = 2,
    progress: Progress = silent,
    note: Log = lambda line: None,
) -> Pruned:
    """Remove what no rule keeps and what pays.

    `prove` verifies the set; `known`: the proofs of earlier runs; `save` takes the proofs of this
    one; `over` returns whether the budget is used up.  Raises BlockdiffError; what was done before
    is complete.
    """
    work = _Prune(backup_set, wanted, threads, progress, over, save, now)
    finished: list[str] = []
    for again in (True, False):
        with backup_set.locked(wanted.wait_s):
            recover.settle(backup_set, finished.append)
        seen = _look(backup_set, wanted, now, local, also)
        if not work.out.stored:
            work.out.stored = sum(entry.stored for entry in seen.entries)
        try:
            work.run(seen, prove, known)
            break
        except SetChanged:
            if not again:
                raise
            note(f"{backup_set.name} was changed meanwhile: looking at it once more")
    work.out.warnings += finished
    return work.out


class _Prune:
    """One set, and what was done so far."""

    def __init__(
        self,
        backup_set: BackupSet,
        wanted: Wanted,
        threads: int,
        progress: Progress,
        over: Callable[[], bool],
        save: Callable[[Mapping[int, verified.Proof]], object],
        now: datetime.datetime,
    ) -> None:
        self._backup_set, self._wanted, self._threads, self._progress = backup_set, wanted, threads, progress
        self._over, self._save, self._now = over, save, now
        self._gone: set[int] = set()
        self.out = Pruned(backup_set.name, 0)

    def run(self, seen: _Seen, prove: Prove, known: Mapping[int, verified.Proof]) -> None:
        """Prove what stays, and then do one group after the other."""
        self._identity = self._identify(seen.entries)
        done: list[Group] = []
        held = list(seen.plan.held)
        if seen.plan.go and self._prove(seen, prove, known):
            for group in seen.plan.go:
                if self._over():
                    self.out.warnings.append(_ENDED)
                    break
                (done if self._group(seen, group) else held).append(group)
        left = [group for group in seen.plan.go if group not in done and group not in held]
        _fill(self.out, seen, pruning.Plan(tuple(done), (*held, *left)))

    def _identify(self, entries: Sequence[catalogue.Entry]) -> object:
        listing = self._backup_set.listing()
        found = []
        for entry in (entry for entry in entries if entry.number not in self._gone):
            with contextlib.suppress(BlockdiffError):  # of what does not restore; it shows by its absence
                found.append(versions.version(self._backup_set, entry.number, listing, deep=False))
        return identity(self._backup_set, found)

    def _prove(self, seen: _Seen, prove: Prove, known: Mapping[int, verified.Proof]) -> bool:
        """Return whether every version that stays is proved; False if the budget ended before.

        Raises the first fault of one that does not restore.
        """
        least = self._now.timestamp() - PROOF_S
        fresh = {number: proof for number, proof in known.items() if proof.at >= least}
        found = {version.number: version for version in prove(fresh, self._over)}
        for number in sorted(seen.stay):
            version = found.get(number)
            if version is not None and not version.restores and _restored(seen, number):
                raise next(iter(_faults(found, seen, number)), None) or ChainBroken(
                    number, self._backup_set.name, "verify found that it does not restore"
                )
        self.out.proved += sum(1 for version in found.values() if version.restores and not version.before)
        if any(number not in found for number in seen.stay):
            self.out.warnings.append(_ENDED)
            return False
        return True

    def _group(self, seen: _Seen, group: Group) -> bool:
        """Rewrite what needs the versions of a group, and remove them; returns False if that does not pay."""
        forced = self._wanted.exact or not group.pays()
        with contextlib.ExitStack() as cleanup:
            drafts = []
            for rewrite in group.rewrites:
                made = draft.draft(
                    self._backup_set, rewrite.number, rewrite.onto, threads=self._threads, progress=self._progress
                )
                cleanup.callback(made.discard)
                drafts.append(made)
            written = sum(made.stored for made in drafts)
            self.out.reads += sum(made.read for made in drafts)
            if drafts and not forced and not group.pays(written):
                return False
            with self._backup_set.locked(self._wanted.wait_s):
                if self._identify(seen.entries) != self._identity:
                    raise SetChanged(self._backup_set.name)
                for made in drafts:
                    made.swap()
                drop.drop(self._backup_set, group.numbers)
            self._gone.update(group.numbers)
        self.out.writes += written
        self.out.frees += group.removed - written
        self._identity = self._identify(seen.entries)
        self._note([rewrite.number for rewrite in group.rewrites])
        return True

    def _note(self, numbers: Sequence[int]) -> None:
        """Keep the proofs of versions that were just rewritten, and so proved."""
        listing = self._backup_set.listing()
        proofs = {}
        for number in numbers:
            with contextlib.suppress(BlockdiffError, OSError):
                version = versions.version(self._backup_set, number, listing, deep=False)
                proofs[number] = verified.of(self._backup_set, version, int(self._now.timestamp()))
        if proofs:
            self._save(proofs)


_ENDED = "the budget ended before everything was done: the next run goes on"


def _restored(seen: _Seen, number: int) -> bool:
    """Return whether a version restores as far as names and manifests show."""
    return any(entry.number == number and entry.restores for entry in seen.entries)


def _faults(found: Mapping[int, Proved], seen: _Seen, number: int) -> list[BlockdiffError]:
    """Return the faults of a version and of those that it needs, its own first."""
    parents = {entry.number: entry.parent for entry in seen.entries}
    faults: list[BlockdiffError] = []
    at: int | None = number
    while at is not None:
        faults += found[at].faults if at in found else []
        at = parents.get(at)
    return faults


# looking


def _look(
    backup_set: BackupSet,
    wanted: Wanted,
    now: datetime.datetime,
    local: Callable[[datetime.datetime], datetime.datetime],
    also: Collection[int],
) -> _Seen:
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
    return _Seen(tuple(entries), stay, found)


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


# telling


def _fill(out: Pruned, seen: _Seen, done: pruning.Plan) -> None:
    """Note what happens to each version."""
    entries = {entry.number: entry for entry in seen.entries}
    moved = {rewrite.number: rewrite for group in done.go for rewrite in group.rewrites}
    rows: list[Row] = []
    for number, why in seen.stay.items():
        words = list(why)
        if number in moved:
            onto = moved[number].onto
            words.append("made a full" if onto is None else f"rewritten onto {onto}")
        rows.append(_row([entries[number]], "stay", "; ".join(words)))
    for groups, word in ((done.go, "go"), (done.held, "held")):
        for group in groups:
            for run in _runs([entries[number] for number in group.numbers], list(entries)):
                if run[0].number != group.numbers[0]:
                    rows.append(_row(run, word, f"with {group.numbers[0]}"))
                elif word == "go":
                    rows.append(_row(run, word, _why(group)))
                else:
                    rows.append(replace(_row(run, word, _HELD), frees=group.frees, writes=group.writes))
    out.rows = sorted(rows, key=lambda row: row.first)
    out.stay, out.held = len(seen.stay), sum(len(group.numbers) for group in done.held)
    out.go = len(done.gone)


def _why(group: Group) -> str:
    into = [str(rewrite.number) for rewrite in group.rewrites]
    return f"into {', '.join(into)}" if into else "no rule keeps it"


_HELD = "it would free little for what must be written"


def _runs(some: Sequence[catalogue.Entry], numbers: Sequence[int]) -> list[list[catalogue.Entry]]:
    """Return versions of one kind that follow each other in the set, together."""
    place = {number: n for n, number in enumerate(numbers)}
    runs: list[list[catalogue.Entry]] = []
    for entry in some:
        last = runs[-1][-1] if runs else None
        if last is not None and place[entry.number] == place[last.number] + 1 and entry.kind == last.kind:
            runs[-1].append(entry)
        else:
            runs.append([entry])
    return runs


def _row(run: Sequence[catalogue.Entry], plan: str, why: str) -> Row:
    stored = sum(entry.stored for entry in run)
    return Row(run[0].number, run[-1].number, run[0].begun, run[0].kind or "?", stored, plan, why)
