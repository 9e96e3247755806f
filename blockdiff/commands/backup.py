"""blockdiff-backup [OPTIONS] NAME SOURCE, or NAME COMMAND ARGS... as the original composes it."""

import contextlib
import dataclasses
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import click

from blockdiff import backup
from blockdiff.commands import (
    completing,
    dump_arguments,
    exits,
    operands,
    options_lock,
    options_source,
    progress,
    text,
)
from blockdiff.errors import BlockdiffError
from blockdiff.ingest.job import Job
from blockdiff.sets import identity
from blockdiff.sets.outcome import Outcome
from blockdiff.source import snapshots
from blockdiff.source.wanted import AUTO, DEFAULT_BLOCK_SIZE, MUST, NONE, Wanted
from blockdiff.transport.destination import Destination, parse_source

# what the original's commands read is what they were given; only ssh-lvm-dump makes a snapshot
_SNAPSHOTS = {
    None: AUTO,
    dump_arguments.DUMP: NONE,
    dump_arguments.SSH_DUMP: NONE,
    dump_arguments.LVM_DUMP: MUST,
}
_SUFFIXES = {"gzip": ".gz", "zstd": ".zst", "none": ""}


def split(args: Sequence[str], values: Mapping[str, int], always_command: bool) -> tuple[list[str], list[str]]:
    """Return (our own words: options, NAME and perhaps SOURCE; the COMMAND's words, if there is one).

    Behind NAME, one operand that is no known command is a SOURCE, with options of ours on
    either side; a known command, two operands or more, or `--`, is a COMMAND with all that
    follows it.
    """
    operands: list[int] = []  # places
    place = 0
    while place < len(args):
        word = args[place]
        if word == "--":
            if operands:
                return list(args[: operands[1] if len(operands) > 1 else place]), list(
                    args[operands[1] if len(operands) > 1 else place + 1 :]
                )
            # before NAME: only operands follow
            behind = list(args[place + 1 :])
            if len(behind) > 2 or always_command or (len(behind) == 2 and dump_arguments.known(behind[1])):
                words = behind[2:] if behind[1:2] == ["--"] else behind[1:]
                return [*args[: place + 1], *behind[:1]], words
            return list(args), []
        if word.startswith("-") and len(word) > 1:
            place += 1 + values.get(word, 0)
            continue
        operands.append(place)
        if len(operands) == 2 and (always_command or dump_arguments.known(word)):
            return list(args[:place]), list(args[place:])
        place += 1
    if len(operands) > 2:
        return list(args[: operands[1]]), list(args[operands[1] :])
    return list(args), []


class _Command(click.Command):
    """A command whose words behind NAME may be another command's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        values = {
            name: parameter.nargs
            for parameter in self.params
            if isinstance(parameter, click.Option) and not parameter.is_flag
            for name in parameter.opts
        }
        own, words = split(args, values, always_command=ctx.info_name == "blockdiff_backup")
        ctx.obj = words
        return super().parse_args(ctx, own)


@click.command(cls=_Command)
@click.option("--compress", type=click.Choice(list(_SUFFIXES)), help="How the diff file is stored.  [default: gzip]")
@click.option("-z", "--gzip", "compress", flag_value="gzip", help="The same as --compress gzip.")
@click.option("--zstd", "compress", flag_value="zstd", help="The same as --compress zstd.")
@click.option("--block-size", "--blocksize", "block_size", type=options_source.BLOCK_SIZE, metavar="BYTES",
              help="Size of a block, 1 to 16M; must be the set's, unless a full is made.  [default: the set's,"
              " else BLOCKSIZE, else 64K]")  # fmt: skip
@click.option("--full", is_flag=True, help="BackupSet every block, whatever the version before holds.")
@click.option("--no-auto-full", is_flag=True, help="Stop where the version before cannot be built upon.")
@click.option("--no-snapshot", is_flag=True, help="Read the source as it lives, without a snapshot.")
@options_lock.options
@click.option("--with", "others", nargs=2, multiple=True, metavar="NAME SOURCE", shell_complete=completing.sets,
              help="Back up this source, too, with all snapshots made at one moment, in one lock; may be repeated.")
@click.option("--rescan", is_flag=True, help="Compute the MD5 of every block, also where XXH3-128 tells no change.")
@click.option("--new-source", is_flag=True, help="Let the set go on with this source, whatever it was of until now.")
@click.option("--dry-run", is_flag=True, help="Look at the source and say what would be done; change nothing.")
@text.json_option
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but warnings and errors.")
@click.option("-v", "--verbose", is_flag=True, help="Say more, also what the agent says.")
@options_source.options
@click.argument("name", metavar="NAME", shell_complete=completing.sets)
@click.argument("source", metavar="SOURCE | COMMAND [ARGS]...", required=False, shell_complete=completing.files)
@click.pass_context
def command(
    context: click.Context,
    /,
    name: str,
    source: str | None,
    compress: str | None,
    block_size: int | None,
    full: bool,
    no_auto_full: bool,
    rescan: bool,
    no_snapshot: bool,
    new_source: bool,
    dry_run: bool,
    snapshot_size: str | None,
    lock: str | None,
    others: tuple[tuple[str, str], ...],
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **reach_options: Any,
) -> None:
    """Write the next version of set NAME (a path prefix) from SOURCE: a file or block device,
    PATH or [USER@]HOST:/PATH.

    Or from COMMAND, as the original has it: blockdiff-dump, ssh-blockdiff-dump and ssh-lvm-dump run
    inside; any other program writes the dump to its standard output and the new digests to
    descriptor 6, with the old ones on descriptor 5, and is proved before it is published.
    """
    words: list[str] = context.obj
    if (source is None) == (not words):
        raise click.UsageError("NAME and a SOURCE, or NAME and a COMMAND, are needed")
    verbose = verbose or bool(os.environ.get("VERBOSE"))

    def say(line: str) -> None:
        if not quiet:
            progress.line(line)

    def warn(line: str) -> None:
        progress.line(f"blockdiff: warning: {line}")

    def chatter(line: str) -> None:
        if verbose:
            progress.line(line)

    reach = options_source.Reach(**reach_options)
    exits.limit(reach.max_time)
    program = dump_arguments.known(words[0]) if words else None
    if words and program is None:
        from blockdiff import dumpcommand

        if len(words) > 1 and context.info_name != "blockdiff_backup" and operands.is_source(words[0]):
            hint = "--with NAME SOURCE backs up another one, to a set of its own"
            raise click.UsageError(f"NAME takes one source, and {text.name(words[0])} is no program (hint: {hint})")
        taken = ("compress", "block_size", "rescan", "no_snapshot", "snapshot_size", "lock", "others", "dry_run")
        given = [option for option in taken if context.params[option]]
        if given:
            raise click.UsageError(f"{words[0]} decides for itself: --{given[0].replace('_', '-')} cannot be given")
        say(f"running: {text.name(shlex.join(words))}")
        label = f"{text.name(name)} from {text.name(words[0])}" if quiet else ""
        with _about(label):
            done = dumpcommand.run(
                operands.named_set(name, None),
                words,
                environment=dict(os.environ),
                auto_full=not no_auto_full,
                full=full,
                new_source=new_source,
                warn=warn,
                note=say,
            )
        results: list[Outcome | BlockdiffError] = [done]
    else:
        common: dict[str, Any] = {
            "full": full,
            "auto_full": not no_auto_full,
            "rescan": rescan,
            "jobs": reach.jobs,
            "bwlimit": reach.bwlimit,
            "new_source": new_source,
            "live": no_snapshot,
            "verbose": verbose,
            "snapshot_size": options_lock.snapshot_size(snapshot_size),
            "heard": verbose,
            **({"snapshot": NONE} if no_snapshot else {}),
        }
        pairs = [(name, source, program, words), *((more, at, None, []) for more, at in others)]
        with contextlib.ExitStack() as held:
            label = text.name(os.path.basename(name)) if not others else f"{len(pairs)} sets"
            shown = held.enter_context(progress.shared(label, enabled=not quiet))
            jobs = []
            for set_name, at, composed, composition in pairs:
                destination, wanted = _wanted(at, composed, composition, compress, block_size)
                if no_snapshot and wanted.snapshot == MUST:
                    raise click.UsageError(f"{composition[0]} makes a snapshot: --no-snapshot cannot be given")
                host = identity.LOCAL if destination is None else destination.host
                label = f"{text.name(set_name)} from {text.name(identity.spelt(host, wanted.path))}"
                label = label if quiet or others else ""
                wanted = dataclasses.replace(wanted, **common, **reach.patience(destination))
                with _about(label):
                    store = operands.named_set(set_name, wanted.path if destination is None else None)
                connect = reach.connect(destination, chatter)
                jobs.append(Job(store, wanted, connect, shown(), host, label))
                doing = "looking at" if dry_run else "running"
                say(f"{doing}: {text.name(shlex.join(composition) if composition else str(at))}")
            # a lock is for snapshots: the original's commands that make none never looked at its prefix
            locks = program in (None, dump_arguments.LVM_DUMP)
            lock_wanted = options_lock.quiesce(lock) if locks else None
            operands.refuse_twins(jobs)
            with _about(", ".join(job.label for job in jobs)):
                if dry_run:
                    context.exit(_plan(jobs, lock_wanted, as_json, warn, say))
                results = backup.run_all(jobs, cores=options_source.cores(), quiet=lock_wanted, warn=warn, note=say)
    names = [name, *(more for more, _ in others)]
    context.exit(_report(names, results, as_json, verbose or (sys.stderr.isatty() and not quiet), say))


@contextlib.contextmanager
def _about(label: str) -> Iterator[None]:
    """Have an error say what it is about, unless it does."""
    try:
        yield
    except BlockdiffError as error:
        error.concern(label)
        raise


def _plan(
    jobs: Sequence[Job],
    quiet: snapshots.Quiesce | None,
    as_json: bool,
    warn: Callable[[str], None],
    say: Callable[[str], None],
) -> int:
    """Print what a run would do; returns the exit code."""
    from blockdiff import dryrun

    plans = dryrun.plan_all(jobs, quiet=quiet, warn=warn, note=say)
    for plan in plans:
        if as_json:
            text.put_json(plan.as_json(), line=True)
            continue
        source, at = plan.source, text.name(identity.spelt(plan.source["host"], plan.source["path"]))
        on = "" if plan.parent is None else f" on version {plan.parent}"
        click.echo(f"would write version {plan.version} of {text.name(plan.name)}: {plan.kind}{on}")
        click.echo(f"  read {at}: {source['kind']}, {source['size']} bytes, blocks of {plan.block_size} bytes")
        if plan.snapshot is None:
            click.echo("  no snapshot")
        else:
            room = plan.snapshot["size"]
            inside = " inside the lock" if plan.lock else ""
            click.echo(f"  snapshot{inside}: {'in its thin pool' if room is None else text.size(room)}")
    return max(plan.exit_code for plan in plans)


def _report(
    names: Sequence[str],
    results: Sequence[Outcome | BlockdiffError],
    as_json: bool,
    summary: bool,
    say: Callable[[str], None],
) -> int:
    """Print what came of each source; returns the exit code, that of the first error if there is one."""
    if len(results) == 1 and isinstance(results[0], BlockdiffError):
        raise results[0]
    outcomes = [result for result in results if isinstance(result, Outcome)]
    failures = [exits.report(result) for result in results if isinstance(result, BlockdiffError)]
    for name, result in zip(names, results, strict=True) if as_json else ():
        if isinstance(result, BlockdiffError):
            text.put_json({"name": name, "error": exits.describe(result)}, line=True)
        else:
            text.put_json(result.as_json(), line=True)
    for outcome in outcomes if summary else ():
        say(_summary(outcome))
    if failures:
        return failures[0]
    warned = any(outcome.warnings for outcome in outcomes)
    say("backup completed with warnings" if warned else "backup completed successfully")
    return 3 if warned else 0


def _wanted(
    source: str | None, program: str | None, words: list[str], compress: str | None, block_size: int | None
) -> tuple[Destination | None, Wanted]:
    """Return where the volume is and what is wanted of it."""
    if source is not None:
        try:
            destination, path = parse_source(source)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        default = options_source.environment_block_size(os.environ) or DEFAULT_BLOCK_SIZE
        suffix = _SUFFIXES[compress or "gzip"]
    else:
        assert program is not None
        line = dump_arguments.parse(program, words[1:])
        if line.path is None:
            raise click.UsageError(f"{words[0]} needs a FILE here")
        destination, path, default = line.destination, line.path, line.default_block_size
        suffix = _SUFFIXES[compress] if compress else line.suffix
        if block_size is not None and line.block_size not in (None, block_size):
            raise click.UsageError("two different block sizes are given")
        block_size = block_size or line.block_size
    wanted = Wanted(
        path=path if destination is not None else os.path.abspath(path),
        suffix=suffix,
        block_size=block_size,
        default_block_size=default,
        snapshot=_SNAPSHOTS[program],
        pack_wire=destination is not None,
    )
    return destination, wanted


def _summary(outcome: Outcome) -> str:
    size = "unknown size" if outcome.size is None else f"{outcome.size} bytes"
    return (
        f"version {outcome.version} of {outcome.name}: {outcome.kind}, {outcome.changed} of {outcome.blocks} blocks"
        f" changed, {size}, {outcome.stored} bytes stored, {outcome.seconds:.1f} s"
    )
