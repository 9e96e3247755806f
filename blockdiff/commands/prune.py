"""blockdiff-prune RULES NAME|FOLDER...: remove the versions that no rule keeps."""

import datetime
import functools
import os
import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from blockdiff.commands import amounts, completing, exits, joblist, options_sign, setnames, state, text
from blockdiff.commands.progress import progress
from blockdiff.errors import BlockdiffError, Sealed
from blockdiff.place import choose
from blockdiff.place.base import PLAIN, Access
from blockdiff.sets import retention
from blockdiff.sets.pruning import MAX_CHAIN
from blockdiff.signing.allowed import AllowedSigners

F = TypeVar("F", bound=Callable[..., Any])

_WARNED = 3
_COUNT = click.IntRange(min=1)


class _Span(click.ParamType[retention.Span]):
    name = "time span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> retention.Span:
        try:
            return retention.parse_span(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Numbers(click.ParamType[frozenset[int]]):
    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> frozenset[int]:
        if not re.fullmatch(r"[1-9][0-9]{0,17}(,[1-9][0-9]{0,17})*", value, re.ASCII):
            self.fail(f"{value!r} is not version numbers such as 3 or 3,7", param, ctx)
        return frozenset(map(int, value.split(",")))


def _keep(name: str, what: str) -> Callable[[F], F]:
    return click.option(f"--keep-{name}", name, type=_COUNT, metavar="N",
                        help=f"Keep the newest version of each of the last N {what} that have one.")  # fmt: skip


@click.command()
@click.argument("operands", metavar="NAME|FOLDER...", nargs=-1, shell_complete=completing.sets)
@click.option("--keep-last", "last", type=_COUNT, metavar="N",
              help="Keep the newest N versions.")  # fmt: skip
@_keep("hourly", "hours")
@_keep("daily", "days")
@_keep("weekly", "weeks")
@_keep("monthly", "months")
@_keep("yearly", "years")
@click.option("--keep-within", "within", type=_Span(), metavar="SPAN",
              help="Keep what is not older than the newest by more than 36h, 14d, 8w, 6m or 2y.")  # fmt: skip
@click.option("--keep", "numbers", type=_Numbers(), default=None, metavar="N[,N]...", help="Keep these versions.")
@click.option("-n", "--dry-run", is_flag=True, help="Print what would be done; change nothing.")
@click.option("--exact", is_flag=True, help="Remove also what frees little for what must be written.")
@click.option("--together", is_flag=True, help="Keep or remove versions of one moment together in all sets.")
@click.option("--max-chain", type=click.IntRange(min=2), default=MAX_CHAIN, show_default=True, metavar="N",
              help="Make a chain of more versions shorter, whether or not that pays.")  # fmt: skip
@amounts.budget_option
@amounts.jobs_option
@options_sign.sign_anew_option
@options_sign.signers_anew_option
@amounts.wait_option
@joblist.option
@text.json_option
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but warnings and errors.")
@click.pass_context
def command(
    context: click.Context,
    /,
    operands: tuple[str, ...],
    dry_run: bool,
    exact: bool,
    together: bool,
    max_chain: int,
    budget: tuple[float | None, int | None] | None,
    jobs: int | None,
    sign: str | None,
    signers: AllowedSigners | None,
    wait: float,
    list_path: str | None,
    as_json: bool,
    quiet: bool,
    **rules: Any,
) -> None:
    """Remove the versions of set NAME, or of all sets in FOLDER, that no --keep rule keeps.

    Rules add up.  Nothing is removed before all that stays is proved.  The newest version, what a
    version that stays needs, and one with a NAME.N.keep beside it, always stay.
    """
    from blockdiff.rewriting import survey
    from blockdiff.sets.backupset import BackupSet

    given = {rule: value for rule, value in rules.items() if value is not None}
    signing = options_sign.signer(sign, signers)
    wanted = survey.Wanted(
        retention.Rules(**given), exact=exact, max_chain=max_chain, wait_s=wait, signing=signing
    )
    if wanted.rules.none:
        raise click.UsageError("no rule: give at least one --keep-..., such as --keep-daily 14")
    names = setnames.expand(operands, list_path)
    now = datetime.datetime.now(datetime.UTC)
    run = _Run(wanted, now, dry_run, jobs or len(os.sched_getaffinity(0)), budget, quiet)
    codes: list[int] = []
    also: dict[str, frozenset[int]] = {}
    if together:
        also = survey.together([BackupSet(name) for name in names], wanted, now, _local)
    for place, name in enumerate(names):
        try:
            done = run.one(name, also.get(name, frozenset()))
        except BlockdiffError as error:
            if len(names) == 1:
                raise
            error.concern(text.name(name))
            codes.append(exits.report(error))
            if as_json:
                text.put_json({"set": name, "error": exits.describe(error)}, line=True)
            continue
        if as_json:
            text.put_json(_json(done, dry_run), line=len(names) > 1)
        elif not quiet:
            click.echo(("\n" if place else "") + _report(done, dry_run))
        for line in done.warnings:
            text.warn(f"{text.name(done.name)}: {line}")
        if done.failure is not None:
            done.failure.concern(text.name(name) if len(names) > 1 else "")
            exits.report(done.failure)
        codes.append(done.exit_code)
    failed = [code for code in codes if code not in (0, _WARNED)]
    context.exit(failed[0] if failed else max(codes, default=0))


def _local(time: datetime.datetime) -> datetime.datetime:
    try:
        return time.astimezone()
    except OverflowError:  # at the borders of the calendar
        return time


class _Run:
    """What is the same for all sets of a run."""

    def __init__(
        self,
        wanted: Any,
        now: datetime.datetime,
        dry_run: bool,
        threads: int,
        budget: tuple[float | None, int | None] | None,
        quiet: bool,
    ) -> None:
        self._wanted, self._now, self._dry_run, self._threads, self._quiet = wanted, now, dry_run, threads, quiet
        self._spending = amounts.Spending(budget)
        self._before = 0  # bytes that were read for the sets before
        self._noted: set[str] = set()  # what holds for several sets is printed once

    def one(self, name: str, also: frozenset[int]) -> Any:
        """Prune one set, or plan it."""
        try:
            return self._one(name, also)
        except Sealed as error:
            error.hint = "back up with --full, copy to another NAME from then on, and remove this set in the end"
            raise

    def _one(self, name: str, also: frozenset[int]) -> Any:
        from blockdiff import prune
        from blockdiff.sets.backupset import BackupSet

        access = Access(locks=state.locks()) if choose.in_store(name) else PLAIN
        backup_set = BackupSet(name, access)
        if self._dry_run:
            return prune.plan(backup_set, self._wanted, self._now, _local, also, damage=state.notes(name).damage)
        done = prune.prune(
            backup_set,
            self._wanted,
            functools.partial(self._prove, backup_set),
            noted=state.notes(name),
            save=functools.partial(state.add_proofs, name),
            now=self._now,
            local=_local,
            also=also,
            over=self._over,
            threads=self._threads,
            progress=functools.partial(progress, label="rewrite", enabled=not self._quiet),
            note=self._note,
        )
        self._before += done.read
        return done

    def _note(self, line: str) -> None:
        if not self._quiet and line not in self._noted:
            self._noted.add(line)
            click.echo(f"blockdiff: {line}", err=True)

    def _over(self, read: int) -> bool:
        return self._spending.over(self._before + read)

    def _prove(self, backup_set: Any, numbers: Any, known: Any, stop: Any) -> Any:
        from blockdiff import verify

        show = functools.partial(progress, label="prove", enabled=not self._quiet)
        return verify.verify(backup_set, only=numbers, known=known, stop=stop, threads=self._threads, progress=show)


def _report(done: Any, dry_run: bool) -> str:
    held = f", {done.held} held" if done.held else ""
    count = f"{done.stay + done.go + done.held} versions, {text.size(done.stored)}"
    if dry_run:
        title = f"{count}: {done.stay} stay, {done.go} go{held}"
        title += f"; frees {_signed(done.frees)}, reads {text.size(done.reads)}, writes {text.size(done.writes)}"
    else:
        title = f"{count}: {done.stay} stay, {done.go} gone{held}"
        title += f"; {done.proved} proved, freed {_signed(done.frees)}, written {text.size(done.writes)}"
    rows = [("version", "time", "kind", "stored", "plan", "why")]
    for row in done.rows:
        numbers = str(row.first) if row.first == row.last else f"{row.first}-{row.last}"
        why = row.why
        if row.writes:
            why = f"frees {_signed(row.frees)} for {text.size(row.writes)} written; --exact removes them"
            if choose.in_store(done.name):
                why = "others need them, and in an object store nothing is rewritten"
        if row.until:
            why = f"kept by the object store until {text.when(text.utc(row.until) or '')}"
        rows.append((numbers, text.when(row.time), row.kind, text.size(row.stored), row.plan, why))
    return f"{text.name(done.name)}: {title}\n{text.table(rows, frozenset((0, 3)))}"


def _signed(count: int) -> str:
    return f"-{text.size(-count)}" if count < 0 else text.size(count)


def _json(done: Any, dry_run: bool) -> dict[str, Any]:
    return {
        "set": done.name,
        "dry_run": dry_run,
        "stored": done.stored,
        "stay": done.stay,
        "go": done.go,
        "held": done.held,
        "frees": done.frees,
        "reads": done.reads,
        "writes": done.writes,
        "proved": done.proved,
        "versions": [
            {
                "first": row.first,
                "last": row.last,
                "time": row.time,
                "kind": row.kind,
                "stored": row.stored,
                "plan": row.plan,
                "why": row.why,
                "frees": row.frees if row.plan == "held" else None,
                "writes": row.writes if row.plan == "held" else None,
                "kept_until": text.utc(row.until or None),
            }
            for row in done.rows
        ],
        "warnings": done.warnings,
        "error": None if done.failure is None else exits.describe(done.failure),
        "exit_code": done.exit_code,
    }
