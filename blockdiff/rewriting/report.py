"""What a prune does with each version of a set, for people and scripts."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from blockdiff.rewriting.survey import Survey
from blockdiff.sets import catalogue, pruning
from blockdiff.sets.pruning import Group


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
    until: int = 0  # until when its place keeps it, in seconds since 1970, if that is why it is held


def rows(seen: Survey, done: pruning.Plan, left: Collection[Group] = ()) -> list[Row]:
    """Return what happens to each version, in order; `left`: what was not done although it pays."""
    entries = {entry.number: entry for entry in seen.entries}
    moved = {rewrite.number: rewrite for group in done.go for rewrite in group.rewrites}
    out: list[Row] = []
    for number, why in seen.stay.items():
        words = list(why)
        if number in moved:
            onto = moved[number].onto
            words.append("made a full" if onto is None else f"rewritten onto {onto}")
        out.append(_row([entries[number]], "stay", "; ".join(words)))
    for group in (*done.go, *done.held, *left):
        word = "go" if group in done.go else "held"
        first, *more = _runs([entries[number] for number in group.numbers], list(entries))
        if group in done.held:
            why = _KEPT if group.until else _HELD
            held = replace(_row(first, word, why), frees=group.frees, writes=group.writes, until=group.until)
            out.append(held)
        else:
            out.append(_row(first, word, _LEFT if group in left else _why(group)))
        out += [_row(run, word, f"with {group.numbers[0]}") for run in more]
    return sorted(out, key=lambda row: row.first)


_HELD = "it would free little for what must be written"
_KEPT = "its place keeps it"
_LEFT = "not done yet"


def _why(group: Group) -> str:
    into = [str(rewrite.number) for rewrite in group.rewrites]
    return f"into {', '.join(into)}" if into else "no rule keeps it"


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
