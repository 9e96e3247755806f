"""blockdiff-list [NAME|FOLDER]: list sets and their versions."""

import datetime
from typing import Any

import click

from blockdiff.commands import completing, joblist, options_store, state, text
from blockdiff.commands.options_store import Reading

_SECTOR = 512  # bytes; lvcreate takes whole ones only


@click.command()
@click.argument("operands", metavar="[NAME|FOLDER]...", nargs=-1, shell_complete=completing.sets)
@options_store.options
@joblist.option
@text.json_option
@click.pass_context
def command(
    context: click.Context, operands: tuple[str, ...], reading: Reading, list_path: str | None, as_json: bool
) -> None:
    """List the versions of set NAME, or of all sets in FOLDER (default: the current folder).

    It reads only names, sizes, manifests and what a verify noted; blockdiff-verify proves that versions restore.
    """
    from blockdiff.sets import catalogue

    given = joblist.names(operands, list_path) or ["."]
    found = catalogue.every(given, reading.access(given))
    problems = [problem for listed in found for problem in listed.problems]
    as_of = reading.as_of
    if as_json:
        text.put_json({"sets": [_json(listed, _notes(listed, as_of)) for listed in found]})
    else:
        reports = [_report(listed, _notes(listed, as_of), as_of) for listed in found if listed.versions]
        if reports or not problems:
            click.echo("\n\n".join(reports) or "no sets")
    for problem in problems:
        click.echo(f"blockdiff: {problem}", err=True)
    if problems:
        context.exit(problems[0].exit_code)


def _notes(listed: Any, as_of: int | None) -> Any:
    """Return what is noted of a set as it is; of what it was, nothing is."""
    from blockdiff.sets.verified import Notes

    return state.notes(listed.name) if as_of is None else Notes()


def _report(listed: Any, notes: Any, as_of: int | None) -> str:
    from blockdiff.sets import drills

    title = f"{text.name(listed.name)}: {len(listed.versions)} versions, {text.size(listed.stored)}"
    title += f", of {text.name(listed.source)}" if listed.source else ""
    drill = drills.newest(state.drills_path(listed.name)) if as_of is None else None
    if drill is not None:
        when = datetime.datetime.fromtimestamp(drill.begun).astimezone().strftime("%Y-%m-%d")
        title += f", version {drill.version} drilled {when}" + ("" if drill.passed else ": FAILED")
    rows = [("version", "kind", "time", "size", "changed", "stored", "consistency", "restores")]
    doubtful = notes.doubtful(listed.parents)
    for entry in listed.versions:
        restores, why = "yes" if entry.restores else "NO", entry.why
        if entry.restores and (noted := notes.why(entry.number, doubtful)):
            restores, why = "NO" if entry.number in notes.damage else "?", noted
        most = entry.blocks * entry.block_size
        size = text.size(entry.size) if entry.size is not None else (f"<= {text.size(most)}" if entry.kind else "?")
        changed = "?" if entry.changed is None else text.size(min(entry.changed * entry.block_size, most))
        rows.append(
            (
                str(entry.number),
                _kind(entry),
                text.when(entry.time) if entry.time else "?",
                size,
                changed,
                text.size(entry.stored),
                entry.consistency or "-",
                restores + (f": {text.name(why)}" if why else ""),
            )
        )
    lines = [title, text.table(rows, frozenset((0, 3, 4, 5)))]
    lines += _sizes(listed.versions)
    if listed.dropping:
        lines.append(f"{_numbers(listed.dropping)} being removed, the next backup or prune ends it")
    return "\n".join(lines)


def _sizes(entries: Any) -> list[str]:
    """Return what each version takes at least when it is restored, exactly, and as lvcreate takes it."""
    found: dict[tuple[str, int], list[int]] = {}
    for entry in entries:
        if entry.kind:
            size = entry.blocks * entry.block_size if entry.size is None else entry.size
            found.setdefault(("at most " if entry.size is None else "", size), []).append(entry.number)
    return [
        f"to restore {text.numbers(numbers)}: {most}{size} bytes, lvcreate -L {-(-size // _SECTOR) * _SECTOR}b"
        for (most, size), numbers in found.items()
    ]


def _kind(entry: Any) -> str:
    """Return the kind of a version, and how it was read if that was not all of the volume."""
    kind = _bare_kind(entry)
    if entry.hint is None or entry.rewritten:
        return kind
    how = "hint wrong" if entry.hint["wrong"] is not None else f"by {text.name(entry.hint['method'])}"
    return f"{kind}, {how}"


def _bare_kind(entry: Any) -> str:
    if entry.parent is None:
        return "full, made here" if entry.rewritten and entry.kind == "full" else entry.kind or "?"
    return entry.kind if entry.parent == entry.number - 1 else f"{entry.kind} on {entry.parent}"


def _numbers(numbers: list[int]) -> str:
    if len(numbers) == 1:
        return f"version {numbers[0]} is"
    return f"{len(numbers)} versions from {numbers[0]} to {numbers[-1]} are"


def _json(listed: Any, notes: Any) -> dict[str, Any]:
    doubtful = notes.doubtful(listed.parents)
    return {
        "set": listed.name,
        "newest": listed.newest,
        "stored": listed.stored,
        "being_removed": listed.dropping,
        "problems": [str(problem) for problem in listed.problems],
        "versions": [
            {
                "version": entry.number,
                "kind": entry.kind or None,
                "parent": entry.parent,
                "rewritten": entry.rewritten,
                "signed": entry.signed,
                "source": {"host": entry.host, "path": entry.path} if entry.source else None,
                "moment": entry.moment or None,
                "time": entry.time or None,
                "time_recorded": entry.recorded,
                "size": entry.size,
                "size_at_most": entry.blocks * entry.block_size,
                "block_size": entry.block_size,
                "changed_blocks": entry.changed,
                "stored": entry.stored,
                "consistency": entry.consistency or None,
                "hint": entry.hint,
                "restores": entry.restores
                and entry.number not in notes.damage
                and (None if entry.number in doubtful else True),
                "damage": notes.damage[entry.number].what if entry.number in notes.damage else None,
                "why": entry.why,
            }
            for entry in listed.versions
        ],
    }
