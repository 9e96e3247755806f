"""blockdiff-merge NAME TARGET: restore a version.  blockdiff-merge TARGET < DIFF: the original's patch."""

import functools
import os
import sys
from typing import Any

import click

from blockdiff.commands import amounts, completing, exits, programs, state, text
from blockdiff.commands.progress import progress


@click.command()
@click.argument(
    "operands", metavar="[NAME] TARGET", nargs=-1, required=True, shell_complete=completing.set_then_files
)
@click.option("--to", "number", type=click.IntRange(min=1), metavar="N", help="Restore version N, not the newest.")
@click.option("--force", is_flag=True, help="Write over existing data; accept a chain that is damaged or not linked.")
@click.option("--dry-run", is_flag=True, help="Print what would be read and written.")
@click.option(
    "--digests",
    metavar="FILE",
    shell_complete=completing.files,
    help="With TARGET alone: the version's .md5, to prove the result.",
)
@amounts.jobs_option
@text.json_option
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but warnings and errors.")
@click.option("-v", "--verbose", is_flag=True, help="Name every file that is read; sizes in bytes.")
@click.pass_context
def command(
    context: click.Context,
    operands: tuple[str, ...],
    number: int | None,
    force: bool,
    dry_run: bool,
    digests: str | None,
    jobs: int | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Restore version N (the newest) of set NAME to TARGET, a file or block device.

    A new file gets its name only when it is complete.  Every block is proved before it is
    written.  With TARGET alone, a diff file's payload is read from stdin and written over
    existing data; pipe compressed ones through gunzip -c, zstd -dc or lzop -dc.
    """
    threads = jobs or len(os.sched_getaffinity(0))
    if len(operands) == 1:
        if number is not None or dry_run:
            raise click.UsageError("--to and --dry-run need NAME and TARGET")
        context.exit(_patch(operands[0], digests, threads, as_json, quiet))
    if len(operands) > 2:
        raise click.UsageError("too many operands: give NAME and TARGET, or TARGET alone")
    if digests is not None:
        raise click.UsageError("--digests is for TARGET alone; a restore always proves")
    from blockdiff import restore
    from blockdiff.sets.backupset import BackupSet

    backup_set, target = BackupSet(operands[0]), operands[1]
    show = functools.partial(progress, label="restore", enabled=not quiet)
    done = restore.restore(backup_set, number, target, force=force, dry_run=dry_run, threads=threads, progress=show)
    if done.proof is not None:
        state.add_proofs(done.name, {done.version: done.proof})
    _print(done, as_json, quiet, verbose)
    if done.failure is not None:
        raise done.failure
    context.exit(done.exit_code)


def _patch(path: str, digests: str | None, threads: int, as_json: bool, quiet: bool) -> int:
    from blockdiff import patch

    closed = programs.STDIN not in programs.inherited
    if closed or sys.stdin.isatty():
        what = "closed" if closed else "a terminal"
        raise click.UsageError(f"with TARGET alone a diff is read from stdin, and stdin is {what}")
    done = patch.patch(sys.stdin.buffer.read, path, digests_path=digests, threads=threads)
    if as_json:
        text.put_json(
            {
                "target": path,
                "records": done.records,
                "size": done.size,
                "proved": done.proved,
                "notes": done.notes,
                "warnings": [],
            }
        )
    for line in done.notes if not quiet else ():
        click.echo(f"blockdiff: {line}", err=True)
    return 0


def _print(done: Any, as_json: bool, quiet: bool, verbose: bool) -> None:
    """Print what a restore did, without the error that stopped it."""
    if as_json:
        text.put_json(_json(done))
    elif not quiet:
        if verbose or done.dry_run:
            for version, file, size in done.files:
                click.echo(f"read version {version}: {text.name(file)}, {text.amount(size, verbose)}")
        click.echo(_summary(done, verbose))
    for line in done.notes if not quiet else ():
        click.echo(f"blockdiff: {line}", err=True)
    for line in done.warnings:
        text.warn(line)
    if done.failure is not None and not done.whole:
        where = f"{text.name(done.path)} is not version {done.version}; "
        if done.right:
            amount, ranges = text.amount(done.right_bytes, verbose), text.ranges(done.right, done.right_more)
            what = f"{amount} of it are right: bytes {ranges}"
        else:
            what = "none of its bytes are known to be right"
        click.echo(f"blockdiff: {where}{what}", err=True)
    if done.failure is not None and done.left:
        click.echo(f"blockdiff: {text.name(done.left)}", err=True)


def _summary(done: Any, exact: bool) -> str:
    size = "at most the size of its blocks" if done.size is None else text.amount(done.size, exact)
    if done.dry_run:
        return f"write version {done.version}, {size}, to {text.name(done.path)}: {done.target}"
    if done.failure is not None:
        return f"version {done.version} was not restored"
    written, zeros, read = (text.amount(count, exact) for count in (done.written, done.zeros, done.read))
    return (
        f"restored version {done.version} of {text.name(done.name)} to {text.name(done.path)}: {size}"
        f" ({written} written, {zeros} zeros, {read} read)"
    )


def _json(done: Any) -> dict[str, Any]:
    failure = done.failure
    return {
        "set": done.name,
        "version": done.version,
        "target": done.path,
        "target_was": done.target,
        "dry_run": done.dry_run,
        "size": done.size,
        "files": [{"version": n, "path": path, "size": size} for n, path, size in done.files],
        "read": done.read,
        "written": done.written,
        "zeros": done.zeros,
        "notes": done.notes,
        "warnings": done.warnings,
        "error": None if failure is None else exits.describe(failure),
        "right": None
        if failure is None
        else {"bytes": done.right_bytes, "ranges": done.right, "complete": not done.right_more},
    }
