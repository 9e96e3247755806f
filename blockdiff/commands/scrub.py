"""What blockdiff-verify --oldest-first does and prints."""

import time
from collections.abc import Sequence
from typing import Any

import click

from blockdiff.commands import amounts, exits, state, text
from blockdiff.commands.progress import progress
from blockdiff.errors import NoSuchSet, NotSigned
from blockdiff.place.base import Access
from blockdiff.sets import health
from blockdiff.signing.allowed import AllowedSigners

_DAY = 86400
_RATE_S = 7 * _DAY  # of which the rate is
_MORE = "blockdiff-verify {} lists what still restores"


def run(
    operands: Sequence[str],
    budget: tuple[float | None, int | None] | None,
    every_s: float | None,
    access: Access,
    signers: AllowedSigners | None,
    threads: int,
    as_json: bool,
    quiet: bool,
) -> int:
    """Prove the versions whose proofs are the oldest, and print what was found; returns the exit code."""
    from blockdiff import scrub
    from blockdiff.sets import catalogue

    spending = amounts.Spending(budget)
    began, start = time.time(), time.monotonic()
    listed = catalogue.every(operands, access)
    if not listed:
        raise NoSuchSet(operands[0])
    every = scrub.units(listed, state.notes, access)
    due = [unit for unit in every if every_s is None or unit.at is None or began - unit.at >= every_s]
    work = _Work(quiet)
    problems = [problem for each in listed for problem in each.problems]
    for problem in problems:
        work.codes.append(exits.report(problem))
    most = sum(unit.diff for unit in due)
    with progress(min(most, spending.bytes or most), label="verify", enabled=not quiet) as done:
        scrub.scrub(due, spending.over, work.note, access=access, signers=signers, threads=threads, progress=done)
    for name in work.unsaved:
        text.warn(f"{text.name(state.path(name))} cannot be written: the next run proves the same again")
        work.codes.append(3)
    ends = _Ends(every, work.proved, began, time.monotonic() - start)
    if as_json:
        text.put_json({
            **ends.json(),
            "exit_code": work.code,
            "due": len(due),
            "errors": [exits.brief(problem) for problem in problems],
            "versions": [_json(proved) for proved in work.proved],
        })  # fmt: skip
    elif not quiet:
        click.echo("\n".join([*_lines(work.proved), ends.line()]))
    return work.code


class _Work:
    """What was found so far; noted at once, for the run may be killed."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self.proved: list[Any] = []
        self.unsaved: dict[str, None] = {}
        self.codes: list[int] = []

    @property
    def code(self) -> int:
        """The first fault's exit code; else 0, or 3 if there are warnings."""
        return next((code for code in self.codes if code not in (0, 3)), max(self.codes, default=0))

    def note(self, proved: Any) -> None:
        """Note and print what was found of a version."""
        name, found = proved.unit.name, proved.found
        self.proved.append(proved)
        try:
            state.note_checked(name, [found])
        except OSError:
            self.unsaved[name] = None
        where = f"{text.name(name)}: version {found.number}: "
        for fault in found.faults:
            click.echo(f"blockdiff: {where}{fault}", err=True)
            self.codes.append(fault.exit_code)
        for line in found.warnings:
            text.warn(where + line)
            self.codes.append(3)
        for line in found.notes if not self._quiet else ():
            click.echo(f"blockdiff: note: {where}{line}", err=True)


def _lines(proved: Sequence[Any]) -> list[str]:
    """Return a line for each set of which something was read."""
    by_set: dict[str, list[Any]] = {}
    for each in proved:
        by_set.setdefault(each.unit.name, []).append(each)
    out = []
    for name, some in sorted(by_set.items()):
        good = [each.unit.number for each in some if each.found.restores]
        bad = [each.unit.number for each in some if not each.found.restores and not each.found.unknown]
        unsigned = [each.unit.number for each in some if any(isinstance(f, NotSigned) for f in each.found.faults)]
        unknown = [each.unit.number for each in some if each.found.unknown and each.unit.number not in unsigned]
        words = [
            f"version {good[0]} is whole" if len(good) == 1 else "",
            f"versions {text.numbers(good)} are whole" if len(good) > 1 else "",
            f"DAMAGED: {text.numbers(bad)}, {_MORE.format(text.name(name))}" if bad else "",
            f"cannot be read: {text.numbers(unknown)}" if unknown else "",
            f"not signed: {text.numbers(unsigned)}" if unsigned else "",
        ]
        out.append(f"{text.name(name)}: {'; '.join(filter(None, words))}")
    return out


class _Ends:
    """How far the proofs of all versions reach at the end of a run."""

    def __init__(self, every: Sequence[Any], proved: Sequence[Any], began: float, seconds: float) -> None:
        times = {(unit.name, unit.number): unit.at for unit in every}
        for each in proved:
            times[each.unit.name, each.unit.number] = int(began + seconds) if each.found.earned else None
        known = [at for at in times.values() if at is not None]
        self._oldest = min(known, default=None)
        self._never = len(times) - len(known)
        self._stored = sum(unit.diff for unit in every)
        self._read = sum(each.read for each in proved)
        self._now, self._seconds = began + seconds, seconds
        late = sum(unit.diff for unit in every if (times[unit.name, unit.number] or 0) >= self._now - _RATE_S)
        self._all_s = self._stored / late * _RATE_S if late else None

    def line(self) -> str:
        """Return the last line."""
        whole = round(self._seconds)
        spent = f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
        words = [f"read {text.size(self._read)} of {text.size(self._stored)} in {spent}"]
        if self._never:
            words.append(f"{self._never} versions never proved")
        elif self._oldest is not None:
            words.append(f"oldest proof now {health.span(max(0.0, self._now - self._oldest))}")
        if self._all_s is not None and self._all_s > _RATE_S:
            words.append(f"at the rate of the last 7 days all within {health.span(self._all_s)}")
        return ", ".join(words)

    def json(self) -> dict[str, Any]:
        """Return the same for a script."""
        return {
            "read": self._read,
            "stored": self._stored,
            "seconds": round(self._seconds, 3),
            "oldest_proof": text.utc(self._oldest),
            "never_proved": self._never,
            "all_within_seconds": None if self._all_s is None else round(self._all_s),
        }


def _json(proved: Any) -> dict[str, Any]:
    found = proved.found
    return {
        "set": proved.unit.name,
        "read": proved.read,
        **of_version(found),
    }


def of_version(found: Any) -> dict[str, Any]:
    """Return what was found of a version as the JSON of each verify has it."""
    return {
        "version": found.number,
        "restores": found.restores,
        "unknown": found.unknown,
        "lost": {"bytes": found.lost_bytes, "ranges": found.lost, "complete": not found.lost_more},
        "faults": [exits.brief(fault) for fault in found.faults],
        "warnings": found.warnings,
        "notes": found.notes,
    }
