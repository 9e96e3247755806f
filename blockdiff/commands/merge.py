"""blockdiff-merge NAME TARGET: restore a version.  blockdiff-merge TARGET < DIFF: the original's patch."""

import contextlib
import functools
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import click

from blockdiff.commands import (
    amounts,
    completing,
    exits,
    merge_output,
    options_sign,
    options_source,
    options_store,
    programs,
    state,
    text,
)
from blockdiff.commands.options_source import Reach
from blockdiff.commands.options_store import Reading
from blockdiff.commands.progress import progress
from blockdiff.formats import Buffer
from blockdiff.signing.allowed import AllowedSigners
from blockdiff.transport.destination import Destination, parse_source


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
@options_store.options
@click.option("--rescan", is_flag=True, help="Compare a target on a host by MD5, also where XXH3-128 is there.")
@options_sign.signers_option
@text.json_option
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but warnings and errors.")
@click.option("-v", "--verbose", is_flag=True, help="Name every file that is read; sizes in bytes.")
@functools.partial(options_source.options, jobs=False)
@amounts.jobs_option
@click.pass_context
def command(
    context: click.Context,
    /,
    operands: tuple[str, ...],
    number: int | None,
    force: bool,
    dry_run: bool,
    digests: str | None,
    reading: Reading,
    rescan: bool,
    signers: AllowedSigners | None,
    jobs: int | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **reaching: Any,
) -> None:
    """Restore version N (the newest) of set NAME to TARGET, a file or block device: PATH, or
    [USER@]HOST:/PATH on another host, to which only what differs is sent, or - for standard output.

    A new file gets its name only when it is complete.  Every block is proved before it is
    written.  With TARGET alone, a diff file's payload is read from stdin and written over
    existing data; pipe compressed ones through gunzip -c, zstd -dc or lzop -dc.
    """
    reach = options_source.take_reach({**reaching, "threads": jobs or 0})
    exits.limit(reach.max_time)
    threads = jobs or options_source.cores()
    if len(operands) == 1:
        if number is not None or dry_run or signers is not None:
            raise click.UsageError("--to, --dry-run and --allowed-signers need NAME and TARGET")
        _refuse_remote_options(reach, rescan)
        options_store.refuse(operands[0], "nothing is written over in an object store; give NAME and TARGET")
        if reading.as_of is not None or reading.paths:
            raise click.UsageError("--as-of and --identity need NAME and TARGET")
        if _where(operands[0])[0] is not None:
            raise click.UsageError("a host is a target for NAME; a diff on stdin is written on this machine only")
        context.exit(_patch(operands[0], digests, threads, as_json, quiet))
    if len(operands) > 2:
        raise click.UsageError("too many operands: give NAME and TARGET, or TARGET alone")
    if digests is not None:
        raise click.UsageError("--digests is for TARGET alone; a restore always proves")
    from blockdiff import restore
    from blockdiff.sets.backupset import BackupSet

    options_store.refuse(operands[1], "a version is restored to a file or block device, not to an object store")
    to_pipe = operands[1] == "-"
    destination, path = (None, "") if to_pipe else _where(operands[1])
    if destination is None:
        _refuse_remote_options(reach, rescan)
    if to_pipe and as_json:
        raise click.UsageError("--json needs standard output for itself")
    backup_set = BackupSet(operands[0], reading.access(operands[:1]), signers)
    show = functools.partial(progress, label="restore", enabled=not quiet)
    options: Any = {"force": force, "dry_run": dry_run, "threads": threads, "progress": show}
    begun = time.monotonic()
    with contextlib.ExitStack() as cleanup:
        goal: Any = path
        if destination is not None:
            goal = cleanup.enter_context(_on_host(destination, path, reach, rescan, quiet=quiet, verbose=verbose))
        if to_pipe:
            done = restore.stream(backup_set, number, _stdout(), **options)
        else:
            done = restore.restore(backup_set, number, goal, **options)
    if done.proof is not None and reading.as_of is None:
        state.add_proofs(done.name, {done.version: done.proof})
    merge_output.put(done, as_json, quiet, verbose, time.monotonic() - begun, err=to_pipe)
    if done.failure is not None:
        raise done.failure
    context.exit(done.exit_code)


def _stdout() -> Callable[[Buffer], object]:
    """Return what writes to standard output."""
    if programs.STDOUT not in programs.inherited or sys.stdout.isatty():
        what = "a terminal" if programs.STDOUT in programs.inherited else "closed"
        raise click.UsageError(f"the volume would be written to standard output, and that is {what}")

    def write(data: Buffer) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(programs.STDOUT, rest) :]

    return write


def _where(target: str) -> tuple[Destination | None, str]:
    """Return the host of a target, None for this machine, and its path there.

    As with scp, a colon before any slash ends the name of a host.
    """
    try:
        destination, path = parse_source(target)
    except ValueError as error:
        raise click.UsageError(f"{error} (hint: a file of this name is ./{target})") from None
    if destination is not None and not path.startswith("/"):
        raise click.UsageError(
            f"{text.name(target)}: a path on a host begins with / (hint: a file of this name here is"
            f" ./{text.name(target)})"
        )
    return destination, path


def _refuse_remote_options(reach: Reach, rescan: bool) -> None:
    for name, given in (
        ("--sudo", reach.sudo), ("--remote-python", reach.remote_python), ("--rsh", reach.rsh),
        ("--bwlimit", reach.bwlimit), ("--rescan", rescan),
    ):  # fmt: skip
        if given:
            raise click.UsageError(f"{name} is for a target on a host, HOST:/PATH")


def _on_host(destination: Destination, path: str, reach: Reach, rescan: bool, *, quiet: bool, verbose: bool) -> Any:
    """Return a target on a host."""
    from blockdiff.source.hosttarget import HostTarget
    from blockdiff.source.wanted import Wanted

    def say(line: str) -> None:
        if not quiet:
            click.echo(f"blockdiff: {line}", err=True)

    wanted = Wanted(path=path, stderr_logged=verbose, **reach.wanted(destination))
    connect = reach.connect(destination, say if verbose else None)
    return HostTarget(wanted, connect, md5=rescan, warn=text.warn, note=say)


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
