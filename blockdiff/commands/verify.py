"""blockdiff-verify NAME|FOLDER...: prove that every version restores, and list what is lost."""

import dataclasses
import functools
import os
from typing import Any

import click

from blockdiff.commands import (
    amounts,
    completing,
    exits,
    joblist,
    options_sign,
    options_store,
    scrub,
    setnames,
    state,
    text,
    unopened,
)
from blockdiff.commands.options_store import Reading
from blockdiff.commands.progress import progress
from blockdiff.errors import BlockdiffError, NotSigned, Sealed
from blockdiff.signing.allowed import AllowedSigners

_WARNED = 3


@click.command()
@click.argument("operands", metavar="NAME|FOLDER...", nargs=-1, shell_complete=completing.sets)
@click.option("--to", "number", type=click.IntRange(min=1), metavar="N", help="Only what a restore of N reads.")
@click.option("--new", is_flag=True, help="Read only versions that no earlier verify found without fault.")
@click.option("--oldest-first", is_flag=True, help="Prove versions one by one: never proved, then oldest proof.")
@amounts.budget_option
@click.option("--every", type=amounts.Seconds(100 * 365 * 86400), metavar="TIME",
              help="Leave out versions that were proved in this time: 30d.")  # fmt: skip
@options_store.options
@options_sign.signers_option
@amounts.jobs_option
@joblist.option
@text.json_option
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but warnings and errors.")
@click.pass_context
def command(
    context: click.Context,
    operands: tuple[str, ...],
    number: int | None,
    new: bool,
    oldest_first: bool,
    budget: tuple[float | None, int | None] | None,
    every: float | None,
    reading: Reading,
    signers: AllowedSigners | None,
    jobs: int | None,
    list_path: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Read everything that a restore of set NAME, or of all sets in FOLDER, would need, and prove it.

    A fault does not end the run: the result lists the versions that restore and the bytes of
    the others that are lost.  What was found is noted in $XDG_STATE_HOME/blockdiff/verified
    (~/.local/state).  --budget and --every imply --oldest-first.
    """
    threads = jobs or len(os.sched_getaffinity(0))
    if oldest_first or budget is not None or every is not None:
        if number is not None or new:
            raise click.UsageError("--to and --new cannot be used with --oldest-first, --budget or --every")
        given = setnames.given(operands, list_path)
        if reading.as_of is not None:
            raise click.UsageError("--as-of cannot be used with --oldest-first, --budget or --every")
        context.exit(scrub.run(given, budget, every, reading.access(given), signers, threads, as_json, quiet))
    if new and reading.as_of is not None:
        raise click.UsageError("--as-of cannot be used with --new")
    names = setnames.expand(operands, list_path, reading)
    if number is not None and len(names) > 1:
        raise click.UsageError("--to is for one NAME")
    codes = []
    for name in names:
        try:
            codes.append(_verify(name, number, new, reading, signers, threads, as_json, quiet, len(names) > 1))
        except BlockdiffError as error:
            if len(names) == 1:
                raise
            error.concern(text.name(name))
            codes.append(exits.report(error))
            if as_json:
                text.put_json({"set": name, "error": exits.describe(error)}, line=True)
    failed = [code for code in codes if code not in (0, _WARNED)]
    context.exit(failed[0] if failed else max(codes))


def _verify(
    name: str,
    number: int | None,
    new: bool,
    reading: Reading,
    signers: AllowedSigners | None,
    threads: int,
    as_json: bool,
    quiet: bool,
    several: bool,
) -> int:
    """Verify one set and print the result; returns its exit code."""
    from blockdiff import verify
    from blockdiff.sets.backupset import BackupSet

    backup_set = BackupSet(name, reading.access([name]), signers)
    known = state.notes(name).proofs if new else None
    show = functools.partial(progress, label="verify", enabled=not quiet)
    try:
        result = verify.verify(backup_set, number, known=known, threads=threads, progress=show)
    except Sealed:
        if number is not None or new or signers is not None:
            raise
        access = dataclasses.replace(reading.access([name]), unopened=True)
        result = verify.verify_unopened(BackupSet(name, access), progress=show)
    try:
        if reading.as_of is None and result.outside is None:  # what is noted is about the set as it is
            existing = backup_set.listing().versions if number is None else None
            state.note_checked(name, result.versions, existing)
    except OSError as error:
        if new:
            result.warnings.append(f"{state.path(name)}: {error.strerror}; the next --new reads everything again")
    if as_json:
        text.put_json(_json(result), line=several)
    elif not quiet:
        report = _report if result.outside is None else unopened.report
        click.echo(report(result) + ("\n" if several else ""))
    for version in (None, *result.versions):
        faults, warnings = (result.faults, result.warnings) if version is None else (version.faults, version.warnings)
        where = f"{text.name(name)}: " if several else ""
        where += "" if version is None else f"version {version.number}: "
        for fault in faults:
            click.echo(f"blockdiff: {where}{fault}", err=True)
        for line in warnings:
            text.warn(f"{where}{line}")
        for line in version.notes if version is not None and not quiet else ():
            click.echo(f"blockdiff: note: {where}{line}", err=True)
    if result.outside is not None:
        click.echo(f"blockdiff: {result.outside.not_proved}", err=True)
    return result.exit_code


def _state(version: Any) -> str:
    if version.before:
        return "restores (proved before)"
    if version.restores:
        return "restores, but not all is as it was written" if version.faults or version.warnings else "restores"
    if version.lost_bytes:
        return f"LOST: {text.size(version.lost_bytes)}: bytes {text.ranges(version.lost, version.lost_more, 3)}"
    if any(isinstance(fault, NotSigned) for fault in version.faults):
        return "not believed: it is not signed"
    return "not known: a file cannot be read, or a version is not signed" if version.unknown else "LOST"


def _report(result: Any) -> str:
    rows = [("version", "kind", "size", "state")]
    for version in result.versions:
        kind = {True: "full", False: "incremental", None: "?"}[version.full]
        size = "?" if version.size is None else text.size(version.size)
        rows.append((str(version.number), kind, size, _state(version)))
    good = [v.number for v in result.versions if v.restores]
    bad = [v.number for v in result.versions if not v.restores and not v.unknown]
    unknown = [v.number for v in result.versions if v.unknown]
    lines = [text.table(rows, frozenset((0, 2))), ""]
    lines.append(f"{text.name(result.name)}: read {text.size(result.read)} of {len(result.versions)} versions")
    lines.append(f"versions that restore: {text.numbers(good) or 'none'}")
    if bad:
        lines.append(f"versions that do not: {text.numbers(bad)}")
    if unknown:
        signed = not any(isinstance(fault, NotSigned) for v in result.versions for fault in v.faults)
        what = "need files which cannot be read" if signed else "are not signed, or need such a one"
        lines.append(f"versions that {what}: {text.numbers(unknown)}")
    return "\n".join(lines)


def _json(result: Any) -> dict[str, Any]:
    return {
        "set": result.name,
        "exit_code": result.exit_code,
        "read": result.read,
        "restorable": [v.number for v in result.versions if v.restores],
        "faults": [exits.brief(fault) for fault in result.faults],
        "warnings": result.warnings,
        "sealed": None if result.outside is None else unopened.json(result.outside),
        "versions": [
            {
                **scrub.of_version(v),
                "kind": {True: "full", False: "incremental", None: None}[v.full],
                "size": v.size,
                "proved_before": v.before,
            }
            for v in result.versions
        ],
    }
