"""What a prune did with the versions of a set, or would do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from blockdiff.errors import BlockdiffError
from blockdiff.sets.catalogue import Entry
from blockdiff.sets.pruning import Group, Plan
from blockdiff.sets.survey import Survey


@dataclass(frozen=True)
class Row:
    """One version, or several that go or are held together; sizes in bytes."""

    first: int
    last: int
    time: str  # of the first, ISO 8601
    kind: str
    stored: int
    plan: str  # "stay", "go" or "held"
    why: str = ""
    frees: int = 0  # net; what it would free, and write, if it is held; of its whole group
    writes: int = 0


@dataclass
class Pruned:
    """What was done with one set, or would be; sizes in bytes."""

    name: str
    stored: int = 0  # before
    rows: list[Row] = field(default_factory=list)
    stay: int = 0
    go: int = 0
    held: int = 0
    frees: int = 0  # net; an estimate in a dry run
    reads: int = 0  # of what is rewritten
    writes: int = 0
    read: int = 0  # all, also to prove
    proved: int = 0  # versions that were read and proved now
    warnings: list[str] = field(default_factory=list)
    failure: BlockdiffError | None = None  # what ended it; the rest of this is what was done before

    @property
    def exit_code(self) -> int:
        """That of the failure; else 0, or 3 if there are warnings."""
        return self.failure.exit_code if self.failure is not None else 3 if self.warnings else 0

    def fill(self, seen: Survey, done: Plan, left: Sequence[Group] = ()) -> None:
        """Note what happens to each version; `left`: what was not done for lack of time."""
        entries = {entry.number: entry for entry in seen.entries}
        moved = {rewrite.number: rewrite for group in done.go for rewrite in group.rewrites}
        rows: list[Row] = []
        for number, why in seen.stay.items():
            words = list(why)
            if number in moved:
                onto = moved[number].onto
                words.append("made a full" if onto is None else f"rewritten onto {onto}")
            rows.append(_row([entries[number]], "stay", why="; ".join(words)))
        for group in (*done.go, *done.held, *left):
            word = "go" if group in done.go else "held"
            first, *more = _runs(group, entries)
            if group in done.held:
                why = "it would free little for what must be written"
                rows.append(_row(first, word, why=why, frees=group.frees, writes=group.writes))
            else:
                rows.append(_row(first, word, why="not done yet" if group in left else _why(group)))
            rows += [_row(run, word, why=f"with {group.numbers[0]}") for run in more]
        self.rows = sorted(rows, key=lambda row: row.first)
        self.stay, self.held = len(seen.stay), sum(len(group.numbers) for group in (*done.held, *left))
        self.go = len(done.gone)


def _why(group: Group) -> str:
    into = ", ".join(str(rewrite.number) for rewrite in group.rewrites)
    return f"into {into}" if into else "no rule keeps it"


def _runs(group: Group, entries: Mapping[int, Entry]) -> list[list[Entry]]:
    """Return a group's versions of one kind that follow each other in the set, together."""
    place = {number: n for n, number in enumerate(entries)}
    runs: list[list[Entry]] = []
    for entry in (entries[number] for number in group.numbers):
        last = runs[-1][-1] if runs else None
        if last is not None and place[entry.number] == place[last.number] + 1 and entry.kind == last.kind:
            runs[-1].append(entry)
        else:
            runs.append([entry])
    return runs


def _row(run: Sequence[Entry], plan: str, *, why: str = "", frees: int = 0, writes: int = 0) -> Row:
    stored = sum(entry.stored for entry in run)
    return Row(run[0].number, run[-1].number, run[0].begun, run[0].kind or "?", stored, plan, why, frees, writes)
