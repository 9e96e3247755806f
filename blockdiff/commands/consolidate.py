"""blockdiff-consolidate NAME: make a version a full without its source, or put it onto an older version."""

import functools
import os
import time
from typing import Any

import click

from blockdiff.commands import amounts, completing, options_sign, state, text
from blockdiff.commands.progress import progress
from blockdiff.signing.allowed import AllowedSigners


@click.command()
@click.argument("name", shell_complete=completing.sets)
@click.option("--to", "number", type=click.IntRange(min=1), metavar="N", help="Version N, not the newest.")
@click.option("--onto", type=click.IntRange(min=1), metavar="B",
              help="Make it an incremental on version B, and remove the versions between.")  # fmt: skip
@click.option("-n", "--dry-run", is_flag=True, help="Print what would be read; change nothing.")
@amounts.jobs_option
@options_sign.sign_anew_option
@options_sign.signers_anew_option
@amounts.wait_option
@text.json_option
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but warnings and errors.")
@click.pass_context
def command(
    context: click.Context,
    name: str,
    number: int | None,
    onto: int | None,
    dry_run: bool,
    jobs: int | None,
    sign: str | None,
    signers: AllowedSigners | None,
    wait: float,
    as_json: bool,
    quiet: bool,
) -> None:
    """Make the newest version of set NAME a full one, out of the versions that it needs.

    The source is not read.  Every block is proved twice.  Without --onto nothing is removed: the
    older versions stay as they are, and later ones need this one only.
    """
    from blockdiff import consolidate
    from blockdiff.rewriting.plan import NotInChain
    from blockdiff.sets.backupset import BackupSet

    signing = options_sign.signer(sign, signers)
    begun = time.monotonic()
    backup_set = BackupSet(name)
    try:
        done = consolidate.consolidate(
            backup_set,
            number,
            onto,
            wait_s=wait,
            dry_run=dry_run,
            signing=signing,
            threads=jobs or len(os.sched_getaffinity(0)),
            progress=functools.partial(progress, label="read", enabled=not quiet),
            proving=functools.partial(progress, label="prove", enabled=not quiet),
            note=lambda line: None if quiet else click.echo(f"blockdiff: {line}", err=True),
        )
    except NotInChain as error:
        raise click.UsageError(f"--onto: {error}") from None
    if done.stored:
        state.note_proved(backup_set, [done.version])
    seconds = time.monotonic() - begun
    if as_json:
        text.put_json({**_json(done), "seconds": round(seconds, 3)})
    elif not quiet:
        click.echo(_report(done, seconds))
    for line in done.warnings:
        text.warn(line)
    context.exit(done.exit_code)


def _report(done: Any, seconds: float) -> str:
    what = "a full" if done.onto is None else f"an incremental on {done.onto}"
    begin = f"{text.name(done.name)}: version {done.version}"
    if done.already:
        return f"{begin} is {what} already"
    read = f"{text.size(done.read)} of {done.versions} versions"
    if done.dry_run:
        more = f"; then {text.numbers(done.dropped)} would be removed" if done.dropped else ""
        return f"{begin} would be {what}: {read} to read{more}"
    removed = f", {text.numbers(done.dropped)} removed" if done.dropped else ""
    return (
        f"{begin} is {what} now: {read} read, every block proved twice, "
        f"{text.size(done.stored)} written{removed}, {seconds:.1f} s"
    )


def _json(done: Any) -> dict[str, Any]:
    return {
        "set": done.name,
        "version": done.version,
        "parent": done.onto,
        "versions_read": done.versions,
        "read": done.read,
        "stored": done.stored,
        "copied": done.copied,
        "removed": done.dropped,
        "already": done.already,
        "dry_run": done.dry_run,
        "warnings": done.warnings,
        "exit_code": done.exit_code,
    }
