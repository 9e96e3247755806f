"""Whether a set is well: values of its versions, the times of their proofs and a time in, findings out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum

from blockdiff import printable
from blockdiff.errors import BlockdiffError, StoreUnreadable
from blockdiff.sets.catalogue import Entry, Listed
from blockdiff.sets.drills import Drill
from blockdiff.sets.pruning import MAX_CHAIN
from blockdiff.sets.verified import Damage

_DAY, _HOUR, _MINUTE = 86400, 3600, 60
_RANKS = {"application": 2, "crash": 1}  # none and what is not known are less


class State(IntEnum):
    """How a set is; the numbers are Nagios'."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3

    @property
    def rank(self) -> int:
        """The place when sorted from best to worst: what is unknown is less than a warning."""
        return (State.OK, State.UNKNOWN, State.WARNING, State.CRITICAL).index(self)


@dataclass(frozen=True)
class Limits:
    """What is asked of a set: times in seconds, of two the warning and the critical one; None: not asked."""

    age: tuple[float, float] = (26 * _HOUR, 50 * _HOUR)
    proved: tuple[float, float] = (35 * _DAY, 70 * _DAY)
    points: int | None = None  # versions that restore
    still: float | None = 7 * _DAY
    consistency: str = ""
    max_chain: int = MAX_CHAIN
    drilled: float | None = None


@dataclass(frozen=True)
class Finding:
    """One thing that is not well."""

    state: State
    text: str


def worst(states: Sequence[State]) -> State:
    """Return the worst state, OK if there is none."""
    return max(states, key=lambda state: state.rank, default=State.OK)


def span(seconds: float) -> str:
    """Return a time as people read it, such as 3 d 4 h."""
    whole = int(seconds)
    if whole >= _DAY:
        days, hours = whole // _DAY, whole % _DAY // _HOUR
        return f"{days} d {hours} h" if hours else f"{days} d"
    return f"{whole // _HOUR} h" if whole >= _HOUR else f"{whole // _MINUTE} min"


def findings(
    listed: Listed,
    proved: Mapping[int, int],
    damage: Mapping[int, Damage],
    limits: Limits,
    now: datetime,
    drill: Drill | None = None,
) -> list[Finding]:
    """Return what is not well with a set, worst first.

    `proved` has the seconds since 1970 at which a version was proved with the files that it has now;
    `damage`: why versions do not restore, as a verify found it; `drill`: the newest one.
    """
    out = [_problem(problem) for problem in listed.problems]
    published = [entry for entry in listed.versions if entry.number <= listed.newest]
    if not published or published[-1].number != listed.newest:
        missing = f"version {listed.newest} is missing" if listed.newest else "no version is published"
        return out or [Finding(State.CRITICAL, missing)]
    newest = published[-1]
    if not newest.restores:
        out.append(Finding(State.CRITICAL, f"version {newest.number} does not restore: {newest.why}"))
    rules: tuple[Callable[[], Finding | None], ...] = (
        lambda: _damaged(published, damage, now),
        lambda: _drilled(drill, limits, now),
        lambda: _age(newest, limits, now),
        lambda: _unproved(published, proved, limits, now),
        lambda: _points(published, limits),
        lambda: _still(published, limits, now),
        lambda: _halved(published),
        lambda: _consistency(newest, limits),
        lambda: _chain(published, limits),
    )
    out += [found for rule in rules if (found := rule()) is not None]
    return sorted(out, key=lambda finding: -finding.state.rank)


def _problem(error: BlockdiffError) -> Finding:
    return Finding(State.UNKNOWN if isinstance(error, StoreUnreadable) else State.CRITICAL, str(error))


def _since(time: str, now: datetime) -> float | None:
    try:
        moment = datetime.fromisoformat(time)
    except ValueError:
        return None
    return (now - (moment if moment.tzinfo else moment.replace(tzinfo=UTC))) / timedelta(seconds=1)


def _limited(value: float, limits: tuple[float, float], text: str) -> Finding | None:
    warning, critical = limits
    if value > critical:
        return Finding(State.CRITICAL, f"{text} (limit {span(critical)})")
    return Finding(State.WARNING, f"{text} (limit {span(warning)})") if value > warning else None


def _damaged(published: Sequence[Entry], damage: Mapping[int, Damage], now: datetime) -> Finding | None:
    bad = [entry.number for entry in published if entry.number in damage]
    if not bad:
        return None
    first = damage[bad[0]]
    more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
    ago = span(max(0.0, now.timestamp() - first.at))
    return Finding(State.CRITICAL, f"version {bad[0]}{more} was found damaged {ago} ago: {first.what}")


def _drilled(drill: Drill | None, limits: Limits, now: datetime) -> Finding | None:
    if drill is None:
        return None if limits.drilled is None else Finding(State.WARNING, "it was never drilled")
    ago = max(0.0, now.timestamp() - drill.begun)
    if not drill.passed:
        return Finding(State.CRITICAL, f"the drill of version {drill.version} failed {span(ago)} ago: {drill.why}")
    if limits.drilled is None or ago <= limits.drilled:
        return None
    what = f"version {drill.version} was drilled {span(ago)} ago, the last one (limit {span(limits.drilled)})"
    return Finding(State.WARNING, what)


def _age(newest: Entry, limits: Limits, now: datetime) -> Finding | None:
    age = _since(newest.begun, now)
    if age is None:
        return Finding(State.UNKNOWN, f"the time of version {newest.number} is not known")
    if age < 0:
        return Finding(State.WARNING, f"version {newest.number} was begun in the future, in {span(-age)}")
    return _limited(age, limits.age, f"version {newest.number} is {span(age)} old")


def _unproved(published: Sequence[Entry], proved: Mapping[int, int], limits: Limits, now: datetime) -> Finding | None:
    """Return the finding for the version that was not proved for longest; one never proved counts from `begun`."""
    longest, text = 0.0, ""
    for entry in published:
        at = proved.get(entry.number)
        since = _since(entry.begun, now) if at is None else now.timestamp() - at
        if since is not None and since > longest:
            how = f"was never proved in {span(since)}" if at is None else f"was proved {span(since)} ago"
            longest, text = since, f"version {entry.number} {how}"
    return _limited(longest, limits.proved, text)


def _points(published: Sequence[Entry], limits: Limits) -> Finding | None:
    count = sum(entry.restores for entry in published)
    if limits.points is None or count >= limits.points:
        return None
    return Finding(State.WARNING, f"{count} versions restore, {limits.points} are asked for")


def _still(published: Sequence[Entry], limits: Limits, now: datetime) -> Finding | None:
    last = next((entry for entry in reversed(published) if entry.changed != 0), None)
    if limits.still is None or last is None or last is published[-1]:
        return None
    since = _since(last.begun, now)
    if since is None or since <= limits.still:
        return None
    return Finding(State.WARNING, f"no block changed since version {last.number}, {span(since)} ago")


def _halved(published: Sequence[Entry]) -> Finding | None:
    if len(published) < 2:
        return None
    sizes = [entry.blocks * entry.block_size if entry.size is None else entry.size for entry in published[-2:]]
    if sizes[1] * 2 > sizes[0] or not sizes[0] or not published[-2].kind or not published[-1].kind:
        return None
    return Finding(State.WARNING, f"the volume shrank from {printable.size(sizes[0])} to {printable.size(sizes[1])}")


def _consistency(newest: Entry, limits: Limits) -> Finding | None:
    if _RANKS.get(newest.consistency, 0) >= _RANKS.get(limits.consistency, 0):
        return None
    found = newest.consistency or "not known"
    return Finding(State.WARNING, f"consistency of version {newest.number} is {found}, not {limits.consistency}")


def _chain(published: Sequence[Entry], limits: Limits) -> Finding | None:
    parents = {entry.number: entry.parent for entry in published}
    number: int | None = published[-1].number
    length = 0
    while number is not None and length <= len(parents):
        number, length = parents.get(number), length + 1
    if length <= limits.max_chain:
        return None
    return Finding(State.WARNING, f"the chain of version {published[-1].number} is longer than {limits.max_chain}")
