"""blockdiff-run LIST [-- OPTIONS]: many backups, several at once, one at a time for each host."""

import json
import os
import shlex
import signal
import sys
import time
from typing import Any

import click

import blockdiff
from blockdiff import run
from blockdiff.commands import completing, joblist, text
from blockdiff.errors import Interrupted
from blockdiff.jobtext import RULE
from blockdiff.sets.outcome import changed_of

_WARNED = 3
_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(blockdiff.__file__)))


@click.command()
@click.option("-P", "--parallel", type=click.IntRange(1, 1024), default=4, show_default=True, metavar="N",
              help="At most so many backups at once; never two of one host.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Look at the sources and print what would be done; change nothing.")
@click.option("-t", "--timestamp", is_flag=True, help="Begin every line of a backup's output with the time.")
@text.json_option
@click.option("-q", "--quiet", is_flag=True, help="Print only the output of backups that failed or have warnings.")
@click.argument("path", metavar="LIST", shell_complete=completing.files)
@click.argument("options", metavar="[-- OPTIONS]...", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def command(
    context: click.Context,
    parallel: int,
    dry_run: bool,
    timestamp: bool,
    as_json: bool,
    quiet: bool,
    path: str,
    options: tuple[str, ...],
) -> None:
    """Run blockdiff-backup for each line of LIST (- is standard input), which has the words of a
    blockdiff-backup line; OPTIONS are put before the words of each.

    A backup that fails does not stop the others.  The exit code is that of the first line that failed,
    or 3 if there were only warnings.
    """
    lines = joblist.read(path, options)
    tasks = [_task(line, dry_run=dry_run, as_json=as_json) for line in lines]

    def put(number: int, ended: run.Ended) -> None:
        if ended.exit_code or not quiet:
            stream = sys.stderr if as_json else sys.stdout
            stream.flush()
            stream.buffer.write(RULE + ended.text)
            stream.buffer.flush()

    began = time.monotonic()
    result = run.run(tasks, most=parallel, ended=put, stamp=time.asctime if timestamp else None)
    rows = [row for line, ended in zip(lines, result.ended, strict=True) for row in _rows(line, ended)]
    code = _code([ended.exit_code for ended in result.ended if ended is not None])
    if as_json:
        text.put_json({"exit_code": code, "seconds": round(time.monotonic() - began, 3), "backups": rows})
    elif code or result.signal is not None or not quiet:
        click.echo(RULE.decode() + _table(rows))
    if result.signal is not None:
        raise Interrupted(signal.Signals(result.signal).name, 128 + result.signal)
    context.exit(code)


def _task(line: joblist.Line, *, dry_run: bool, as_json: bool) -> run.Task:
    """Return a line as a process; what a dry run prints for people stays in its text."""
    result = as_json or not dry_run
    words = [*(["--dry-run"] if dry_run else []), *line.words]
    launch = [sys.executable, "-c", run.LAUNCH, str(os.getpid()), _ROOT, "blockdiff-backup"]
    return run.Task(
        words=[*launch, *(["--json"] if result else []), *words],
        shown=text.name(shlex.join(["blockdiff-backup", *words])),
        hosts=line.hosts,
        result=result,
    )


def _code(codes: list[int]) -> int:
    """Return the first code of a failure, else 3 if there are warnings."""
    failed = [code for code in codes if code not in (0, _WARNED)]
    return failed[0] if failed else max(codes, default=0)


def _rows(line: joblist.Line, ended: run.Ended | None) -> list[dict[str, Any]]:
    """Return what became of each set of a line, as --json has it."""
    found = [] if ended is None else _objects(ended.result)
    if len(found) != len(line.names):  # one error that is about all of them, or nothing
        found = (found or [{}]) * len(line.names)
    return [_row(line.number, name, ended, each) for name, each in zip(line.names, found, strict=True)]


def _objects(output: bytes) -> list[dict[str, Any]]:
    """Return the objects that blockdiff-backup printed; one that was killed may not have printed the last one."""
    found, rest, decoder = [], output.decode().lstrip(), json.JSONDecoder()
    while rest:
        try:
            value, end = decoder.raw_decode(rest)
        except ValueError:
            break
        found.append(value)
        rest = rest[end:].lstrip()
    return found


def _row(number: int, name: str, ended: run.Ended | None, found: dict[str, Any]) -> dict[str, Any]:
    changed = None
    if "changed" in found:
        changed = changed_of(found["size"], found["block_size"], found["blocks"], found["changed"])
    row: dict[str, Any] = {
        "line": number,
        "set": name,
        "version": found.get("version"),
        "kind": found.get("kind"),
        "changed": changed,
        "stored": found.get("stored"),
        "seconds": found.get("seconds"),
    }
    if ended is None:
        return {**row, "exit_code": None, "why": "not started"}
    if row["seconds"] is None:
        row["seconds"] = round(ended.seconds, 3)
    error, warnings = found.get("error"), found.get("warnings")
    if error is not None:
        return {**row, "exit_code": error["exit_code"], "why": error["message"]}
    if warnings is not None:
        more = f" (and {len(warnings) - 1} more)" if len(warnings) > 1 else ""
        return {**row, "exit_code": _WARNED if warnings else 0, "why": f"{warnings[0]}{more}" if warnings else ""}
    return {**row, "exit_code": ended.exit_code, "why": _last_words(ended)}


def _last_words(ended: run.Ended) -> str:
    """Return why a backup without a result ended: its signal, or its last line."""
    if ended.signal is not None:
        return f"ended by {signal.Signals(ended.signal).name}"
    if ended.exit_code == 0:
        return ""
    return os.fsdecode(ended.text.splitlines()[-2]).removeprefix("blockdiff: ")  # the last one is the exit code's


def _table(rows: list[dict[str, Any]]) -> str:
    """Return a line for each set."""
    cells: list[tuple[str, ...]] = [("set", "version", "kind", "changed", "stored", "seconds", "exit", "why")]
    for row in rows:
        changed, stored = (None if row[key] is None else text.size(row[key]) for key in ("changed", "stored"))
        seconds = None if row["exit_code"] is None else f"{row['seconds']:.1f}"
        some = (row["version"], row["kind"], changed, stored, seconds, row["exit_code"])
        shown = ("-" if cell is None else str(cell) for cell in some)
        cells.append((text.name(row["set"]), *shown, text.name(row["why"])))
    return text.table(cells, frozenset((1, 3, 4, 5, 6)))
