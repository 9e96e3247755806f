"""blockdiff-check NAME|FOLDER...: are backups young, proved and restorable; for people and monitoring."""

import datetime
import os
import traceback
from collections.abc import Callable
from typing import Any

import click

from blockdiff.commands import amounts, completing, joblist, options_store, outfile, setnames, state, text
from blockdiff.commands.options_store import Reading
from blockdiff.errors import BlockdiffError
from blockdiff.sets import health
from blockdiff.sets.health import State

_MOST_LINES = 20  # NRPE takes 4 KiB
_DAY = 86400


class _Usage(click.UsageError):
    exit_code = int(State.UNKNOWN)


class _Nagios(click.Command):
    """A command whose every failure is 3, UNKNOWN."""

    def make_context(self, *args: Any, **more: Any) -> click.Context:
        try:
            return super().make_context(*args, **more)
        except click.UsageError as error:
            raise _Usage(error.format_message(), error.ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.exceptions.Exit:
            raise
        except click.UsageError as error:
            raise _Usage(error.format_message(), error.ctx) from None
        except BlockdiffError as error:
            click.echo(f"BLOCKDIFF UNKNOWN - {error}")
        except OSError as error:
            click.echo(f"BLOCKDIFF UNKNOWN - {error.filename}: {error.strerror}")
        except Exception as error:  # monitoring must not take a bug for a warning
            traceback.print_exc()
            click.echo(f"BLOCKDIFF UNKNOWN - {type(error).__name__}, which is a bug")
        return ctx.exit(State.UNKNOWN)


class _Pair(click.ParamType[tuple[float, float]]):
    """The warning and the critical limit: 26h:50h; one for both: 26h."""

    name = "limits"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float]:
        if isinstance(value, tuple):
            return value
        times = [amounts.Seconds(100 * 365 * _DAY).convert(part, param, ctx) for part in value.split(":")]
        if len(times) > 2 or times[0] > times[-1]:
            self.fail(f"{value!r} is not a warning and a critical limit such as 26h:50h", param, ctx)
        return times[0], times[-1]


@click.command(cls=_Nagios)
@click.argument("operands", metavar="NAME|FOLDER...", nargs=-1, shell_complete=completing.sets)
@click.option("--age", type=_Pair(), default="26h:50h", show_default=True, metavar="W:C",
              help="The newest version is not older; the limits for a warning and for critical.")  # fmt: skip
@click.option("--proved", type=_Pair(), default="35d:70d", show_default=True, metavar="W:C",
              help="Each version was proved in that time, by a verify, merge, prune or consolidate.")  # fmt: skip
@click.option("--points", type=click.IntRange(min=1), metavar="N", help="At least N versions restore.")
@click.option("--still", type=amounts.Seconds(100 * 365 * _DAY), default="7d", show_default=True, metavar="TIME",
              help="Some block changed in that time.")  # fmt: skip
@click.option("--consistency", type=click.Choice(["crash", "application"]),
              help="The newest version has at least this.")  # fmt: skip
@click.option("--room", type=amounts.Seconds(100 * 365 * _DAY), default="7d", show_default=True, metavar="TIME",
              help="There is space for so long, at the rate of the last 30 days.")  # fmt: skip
@click.option("--drilled", type=amounts.Seconds(100 * 365 * _DAY), metavar="TIME",
              help="A drill passed in that time.")  # fmt: skip
@click.option("--perfdata", is_flag=True, help="Add performance data to the first line.")
@click.option("--prometheus", metavar="FILE", shell_complete=completing.files,
              help="Write FILE for the textfile collector of node_exporter.")  # fmt: skip
@options_store.options_now
@joblist.option
@text.json_option
@click.option("-v", "--verbose", is_flag=True, help="Print a table of all sets, the worst first.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing if all is well.")
@click.pass_context
def command(
    context: click.Context,
    operands: tuple[str, ...],
    age: tuple[float, float],
    proved: tuple[float, float],
    points: int | None,
    still: float,
    consistency: str | None,
    room: float,
    drilled: float | None,
    perfdata: bool,
    prometheus: str | None,
    reading: Reading,
    list_path: str | None,
    as_json: bool,
    verbose: bool,
    quiet: bool,
) -> None:
    """Check set NAME, or all sets in FOLDER, by names, sizes, manifests and when they were proved.

    The exit code is that of Nagios' plugins: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.  Name the sets, or
    give a list: a folder cannot tell of one that never began.
    """
    from blockdiff import check

    names = setnames.given(operands, list_path)
    now = datetime.datetime.now(datetime.UTC)
    limits = health.Limits(
        age=age, proved=proved, points=points, still=still, consistency=consistency or "", drilled=drilled
    )
    sets = check.check(names, state.notes, limits, room, now, drilled=state.drills_path, access=reading.access(names))
    worst = health.worst([each.state for each in sets]) if sets else State.UNKNOWN
    if prometheus is not None:
        outfile.replace(prometheus, _metrics(sets, now))
    if as_json:
        text.put_json({"state": worst.name, "exit_code": int(worst), "sets": [_json(each) for each in sets]})
    elif verbose:
        click.echo(_table(sets, worst, check.room_s(sets)))
    elif not quiet or worst is not State.OK:
        more = f" | {_perfdata(sets, limits, check.room_s(sets))}" if perfdata else ""
        click.echo("\n".join([_first(sets, worst) + more, *_lines(sets)]))
    context.exit(worst)


def _first(sets: list[Any], worst: State) -> str:
    if not sets:
        return "BLOCKDIFF UNKNOWN - no sets"
    bad = [(each, each.findings[0]) for each in sets if each.findings]
    if not bad:
        ages = [each.age for each in sets if each.age is not None]
        newest = f", the newest version of each at most {health.span(max(ages))} old" if ages else ""
        return f"BLOCKDIFF OK - {_count(len(sets), 'set')}{newest}"
    many = {one: sum(each.state is one for each in sets) for one in State}
    words = [
        f"{many[State.CRITICAL]} of {_count(len(sets), 'set')} critical" if many[State.CRITICAL] else "",
        _count(many[State.WARNING], "warning") if many[State.WARNING] else "",
        f"{many[State.UNKNOWN]} unknown" if many[State.UNKNOWN] else "",
    ]
    each, finding = bad[0]
    about = f"{text.name(os.path.basename(each.name))}: {text.name(finding.text)}"
    return f"BLOCKDIFF {worst.name} - {', '.join(filter(None, words))}: {about}".replace("|", "/")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _lines(sets: list[Any]) -> list[str]:
    rows = [
        f"{finding.state.name} {text.name(each.name)}: {text.name(finding.text)}".replace("|", "/")
        for each in sets
        for finding in each.findings
    ]
    more = [f"and {len(rows) - _MOST_LINES} more"] if len(rows) > _MOST_LINES else []
    well = sum(not each.findings for each in sets)
    return [*rows[:_MOST_LINES], *more, *([f"OK {well}"] if well and rows else [])]


def _perfdata(sets: list[Any], limits: health.Limits, room: float | None) -> str:
    """Return performance data: of one set its figures, of several the worst and the sums."""
    ages = [each.age for each in sets if each.age is not None]
    proofs = [each.unproved_since for each in sets if each.unproved_since is not None]
    words = []
    if ages:
        words.append(f"'age'={max(ages):.0f}s;{limits.age[0]:.0f};{limits.age[1]:.0f};0")
    words.append(f"'points'={sum(each.points for each in sets)}")
    if proofs:
        since = datetime.datetime.now(datetime.UTC).timestamp() - min(proofs)
        words.append(f"'proved'={max(since, 0):.0f}s;{limits.proved[0]:.0f};{limits.proved[1]:.0f};0")
    words.append(f"'stored'={sum(each.stored for each in sets)}B")
    if room is not None:
        words.append(f"'room'={room:.0f}s")
    return " ".join(words)


def _table(sets: list[Any], worst: State, room: float | None) -> str:
    rows = [("state", "set", "newest", "age", "points", "back to", "stored", "a day", "proved", "last run", "why")]
    for each in sets:
        rows.append(
            (
                each.state.name,
                text.name(each.name),
                str(each.newest or "-"),
                "-" if each.age is None else health.span(max(each.age, 0)),
                str(each.points),
                text.when(each.back_to) if each.back_to else "-",
                text.size(each.stored),
                text.size(round(each.a_day)),
                f"{each.proved}/{each.points}",
                "running" if each.running else "-" if each.seconds is None else f"{each.seconds:.0f} s",
                text.name("; ".join(finding.text for finding in each.findings)),
            )
        )
    stored, a_day = sum(each.stored for each in sets), sum(each.a_day for each in sets)
    end = f"{_first(sets, worst)}; {text.size(stored)}, {text.size(round(a_day))} a day"
    end += f", space for {health.span(room)}" if room is not None else ""
    return f"{text.table(rows, frozenset((2, 4, 6, 7)))}\n{end}" if sets else end


def _json(each: Any) -> dict[str, Any]:
    return {
        "set": each.name,
        "state": each.state.name,
        "findings": [{"state": finding.state.name, "text": finding.text} for finding in each.findings],
        "source": each.source or None,
        "newest": each.newest or None,
        "begun": text.utc(each.begun),
        "age": each.age,
        "points": each.points,
        "back_to": each.back_to or None,
        "stored": each.stored,
        "a_day": round(each.a_day),
        "proved": each.proved,
        "oldest_proof": text.utc(each.oldest_proof),
        "last_run": each.seconds,
        "drilled": None if each.drill is None else text.utc(each.drill.begun),
        "drilled_version": None if each.drill is None else each.drill.version,
        "drill_passed": None if each.drill is None else each.drill.passed,
        "running": each.running,
        "free": None if each.device is None else each.free,
    }


_GAUGES: tuple[tuple[str, str, Callable[[Any], float | None]], ...] = (
    ("newest_timestamp_seconds", "when the backup of the newest version began", lambda each: each.begun),
    ("oldest_proof_timestamp_seconds",
     "when the version was proved that was not for longest; one that never was counts from its begin",
     lambda each: each.unproved_since),
    ("restore_points", "versions that restore", lambda each: each.points),
    ("stored_bytes", "bytes of all files", lambda each: each.stored),
    ("state", "0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN", lambda each: int(each.state)),
)  # fmt: skip


def _metrics(sets: list[Any], now: datetime.datetime) -> str:
    """Return the gauges of all sets; times, never ages: an age that is not written again would stay young."""
    lines = []
    for name, what, value in _GAUGES:
        found = [(each.name, value(each)) for each in sorted(sets, key=lambda each: str(each.name))]
        lines += text.gauge(name, what, ((each, f"{number:.0f}") for each, number in found if number is not None))
    name = "blockdiff_check_timestamp_seconds"
    lines += [f"# HELP {name} when this was written", f"# TYPE {name} gauge", f"{name} {now.timestamp():.0f}"]
    return "\n".join(lines) + "\n"
