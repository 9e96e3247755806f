"""blockdiff-backup [OPTIONS] NAME SOURCE, or NAME COMMAND ARGS... as with the original."""

import contextlib
import dataclasses
import os
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

import click

from blockdiff import backup
from blockdiff.commands import (
    backup_options,
    backup_output,
    completing,
    dump_arguments,
    exits,
    operands,
    options_lock,
    options_sign,
    options_source,
    progress,
    text,
)
from blockdiff.commands.backup_options import Options
from blockdiff.errors import BlockdiffError
from blockdiff.ingest.job import Job
from blockdiff.place import choose
from blockdiff.place.base import Access
from blockdiff.sets.outcome import Outcome
from blockdiff.sets.version import LOCAL, spelt
from blockdiff.signing.signer import Signer
from blockdiff.source import snapshots
from blockdiff.source.wanted import AUTO, DEFAULT_BLOCK_SIZE, MUST, NONE, Wanted
from blockdiff.transport.destination import Destination, parse_source

# the original's commands read their operand itself; only ssh-lvm-dump makes a snapshot
_SNAPSHOTS = {
    None: AUTO,
    dump_arguments.DUMP: NONE,
    dump_arguments.SSH_DUMP: NONE,
    dump_arguments.LVM_DUMP: MUST,
}
_SUFFIXES = {"gzip": ".gz", "zstd": ".zst", "none": ""}


@click.command(cls=operands.Command)
@click.option("--compress", type=click.Choice(list(_SUFFIXES)), help="Compression of the diff file.  [default: gzip]")
@click.option("-z", "--gzip", "compress", flag_value="gzip", help="The same as --compress gzip.")
@click.option("--zstd", "compress", flag_value="zstd", help="The same as --compress zstd.")
@click.option("--block-size", "--blocksize", "block_size", type=options_source.BLOCK_SIZE, metavar="BYTES",
              help="Size of a block, 1 to 16M; must be the set's, unless a full is made.  [default: the set's,"
              " else BLOCKSIZE, else 64K]")  # fmt: skip
@click.option("--full", is_flag=True, help="Store every block, also those that did not change.")
@click.option("--no-auto-full", is_flag=True, help="Fail if the version before cannot be continued.")
@click.option("--no-snapshot", is_flag=True, help="Read the source without a snapshot.")
@options_lock.options
@click.option("--with", "others", nargs=2, multiple=True, metavar="NAME SOURCE", shell_complete=completing.sets,
              help="Back up this source, too, with all snapshots made at one moment, in one lock; may be repeated.")
@click.option("--rescan", is_flag=True, help="Compute the MD5 of every block, also where XXH3-128 shows no change.")
@click.option("--hints/--no-hints", help="Read only what the pool of a thin volume knows to have changed, and a part"
              " of the rest as an audit; leave a snapshot there for the next run.")  # fmt: skip
@click.option("--new-source", is_flag=True, help="Continue the set with this source, even if the set is of another.")
@click.option("--break-lease", is_flag=True,
              help="Write to an object store although another run seems to; only when that one is dead.")
@options_sign.sign_option
@click.option("--dry-run", is_flag=True, help="Look at the source and print what would be done; change nothing.")
@text.json_option
@click.option("-q", "--quiet", is_flag=True, help="Print warnings and errors only.")
@click.option("-v", "--verbose", is_flag=True, help="Print more, also the agent's output.")
@options_source.options
@click.argument("name", metavar="NAME", shell_complete=completing.sets)
@click.argument("source", metavar="SOURCE | COMMAND [ARGS]...", required=False, shell_complete=completing.files)
@click.pass_context
def command(context: click.Context, /, **parameters: Any) -> None:
    """Write the next version of set NAME (a path prefix) from SOURCE: a file or block device,
    PATH or [USER@]HOST:/PATH.

    Or from COMMAND, as with the original: blockdiff-dump, ssh-blockdiff-dump and ssh-lvm-dump run
    inside this program.  Any other program writes the dump to its standard output and the new digests
    to descriptor 6, with the old ones on descriptor 5; its output is verified before it is published.
    """
    options = backup_options.read(context, parameters)
    options = dataclasses.replace(options, verbose=options.verbose or bool(os.environ.get("VERBOSE")))
    exits.limit(options.reach.max_time)
    signing = options_sign.signer(options.sign)
    if options.words and options.program is None:
        _refuse_options(context, options)
        results: list[Outcome | BlockdiffError] = [_run_command(options, signing)]
    else:
        with contextlib.ExitStack() as cleanup:
            jobs, quiesce = _jobs(options, signing, cleanup)
            with _about(", ".join(job.label for job in jobs)):
                if options.dry_run:
                    context.exit(_plan(jobs, quiesce, options))
                results = backup.run_all(
                    jobs, cores=options_source.cores(), quiesce=quiesce, warn=options.warn, note=options.say
                )
    context.exit(_report(results, options))


def read_line(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the sets and the hosts that a command line is about, without running it.

    Raises click.UsageError if it cannot be run, or asks for what is the whole list's.
    """
    context = command.make_context("blockdiff-backup", list(words), help_option_names=[])
    options = backup_options.read(context, dict(context.params))
    for option, given in (("--dry-run", options.dry_run), ("--json", options.as_json)):
        if given:
            raise click.UsageError(f"{option} is for all lines (hint: blockdiff-run {option} LIST)")
    if options.words and options.program is None:
        _refuse_options(context, options)
        return [options.name], [LOCAL]
    options_lock.quiesce(options.lock)
    names, hosts = [], []
    for name, source, command_words in _sources(options):
        destination, _ = _wanted(options, source, command_words)
        options.reach.connect(destination, None)
        names.append(name)
        hosts.append(LOCAL if destination is None else destination.host)
    return names, hosts


def _sources(options: Options) -> list[tuple[str, str | None, list[str]]]:
    """Return NAME, SOURCE and the words of a COMMAND for each set of a run."""
    first = (options.name, options.source, options.words)
    return [first, *((name, source, []) for name, source in options.others)]


def _refuse_options(context: click.Context, options: Options) -> None:
    """Refuse options that a COMMAND that is not one of ours decides for itself.  Raises click.UsageError."""
    words = options.words
    if choose.in_store(options.name):
        hint = "back up to a folder, and copy from there with blockdiff-copy"
        raise click.UsageError(f"{words[0]} cannot write to an object store: only a SOURCE can (hint: {hint})")
    if len(words) > 1 and context.info_name != "blockdiff_backup" and operands.is_source(words[0]):
        hint = "--with NAME SOURCE backs up another one, to a set of its own"
        raise click.UsageError(f"NAME takes one source, and {text.name(words[0])} is no program (hint: {hint})")
    taken = ("compress", "block_size", "rescan", "hints", "no_snapshot", "snapshot_size", "lock", "others", "dry_run")
    given = [option for option in taken if getattr(options, option)]
    if given:
        raise click.UsageError(f"{words[0]} decides for itself: --{given[0].replace('_', '-')} cannot be given")


def _run_command(options: Options, signing: Signer | None) -> Outcome:
    """Write the next version with a program that is not ours."""
    from blockdiff import dumpcommand

    words = options.words
    options.say(f"running: {text.name(shlex.join(words))}")
    with _about(f"{text.name(options.name)} from {text.name(words[0])}" if options.quiet else ""):
        return dumpcommand.run(
            operands.named_set(options.name, None),
            words,
            environment=dict(os.environ),
            auto_full=not options.no_auto_full,
            full=options.full,
            new_source=options.new_source,
            signing=signing,
            warn=options.warn,
            note=options.say,
        )


def _jobs(
    options: Options, signing: Signer | None, cleanup: contextlib.ExitStack
) -> tuple[list[Job], snapshots.Quiesce | None]:
    """Return the sources and their sets, and the lock around their snapshots; `cleanup` ends their progress bar.

    Raises click.UsageError or NoSuchSet.
    """
    sources = _sources(options)
    label = f"{len(sources)} sets" if options.others else text.name(os.path.basename(options.name))
    shown = cleanup.enter_context(progress.shared(label, enabled=not options.quiet))
    jobs = []
    for name, source, words in sources:
        destination, wanted = _wanted(options, source, words)
        host = LOCAL if destination is None else destination.host
        label = f"{text.name(name)} from {text.name(spelt(host, wanted.path))}"
        label = label if options.quiet or options.others else ""
        with _about(label):
            if choose.in_store(name) and wanted.suffix == ".lzop":
                raise click.UsageError("no object store takes .lzop files: give --compress gzip, zstd or none")
            access = Access(break_lease=options.break_lease)
            backup_set = operands.named_set(name, wanted.path if destination is None else None, access)
        connect = options.reach.connect(destination, options.chatter)
        jobs.append(Job(backup_set, wanted, connect, shown(), host, label, signing))
        doing = "looking at" if options.dry_run else "running"
        options.say(f"{doing}: {text.name(shlex.join(words) if words else str(source))}")
    # a lock is for snapshots: the original's commands that make none ignored its prefix
    locks = options.program in (None, dump_arguments.LVM_DUMP)
    quiesce = options_lock.quiesce(options.lock) if locks else None
    operands.refuse_twins(jobs)
    return jobs, quiesce


def _wanted(options: Options, source: str | None, words: list[str]) -> tuple[Destination | None, Wanted]:
    """Return where the volume is and what is wanted of it."""
    block_size, program = options.block_size, None
    if source is not None:
        try:
            destination, path = parse_source(source)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        default = options_source.environment_block_size(os.environ) or DEFAULT_BLOCK_SIZE
        suffix = _SUFFIXES[options.compress or "gzip"]
    else:
        program = options.program
        assert program is not None
        line = dump_arguments.parse(program, words[1:])
        if line.path is None:
            raise click.UsageError(f"{words[0]} needs a FILE here")
        destination, path, default = line.destination, line.path, line.default_block_size
        suffix = _SUFFIXES[options.compress] if options.compress else line.suffix
        if block_size is not None and line.block_size not in (None, block_size):
            raise click.UsageError("two different block sizes are given")
        block_size = block_size or line.block_size
        if options.no_snapshot and program == dump_arguments.LVM_DUMP:
            raise click.UsageError(f"{words[0]} makes a snapshot: --no-snapshot cannot be given")
    wanted = Wanted(
        path=path if destination is not None else os.path.abspath(path),
        suffix=suffix,
        block_size=block_size,
        default_block_size=default,
        full=options.full,
        auto_full=not options.no_auto_full,
        rescan=options.rescan,
        hints=options.hints,
        snapshot=NONE if options.no_snapshot else _SNAPSHOTS[program],
        live=options.no_snapshot,
        new_source=options.new_source,
        snapshot_size=options_lock.snapshot_size(options.snapshot_size),
        pack_wire=destination is not None,
        verbose=options.verbose,
        stderr_logged=options.verbose,
        **options.reach.wanted(destination),
    )
    return destination, wanted


@contextlib.contextmanager
def _about(label: str) -> Iterator[None]:
    """Label an error, unless it has a label."""
    try:
        yield
    except BlockdiffError as error:
        error.concern(label)
        raise


def _plan(jobs: Sequence[Job], quiesce: snapshots.Quiesce | None, options: Options) -> int:
    """Print what a run would do; returns the exit code."""
    from blockdiff import dryrun

    plans = dryrun.plan_all(jobs, quiesce=quiesce, warn=options.warn, note=options.say)
    for plan in plans:
        backup_output.put_plan(plan, as_json=options.as_json, exact=options.verbose)
    return max(plan.exit_code for plan in plans)


def _report(results: Sequence[Outcome | BlockdiffError], options: Options) -> int:
    """Print the result of each source; returns the exit code, that of the first error if there is one."""
    if len(results) == 1 and isinstance(results[0], BlockdiffError):
        raise results[0]
    outcomes = [result for result in results if isinstance(result, Outcome)]
    failures = [exits.report(result) for result in results if isinstance(result, BlockdiffError)]
    if options.as_json:
        backup_output.put_results([options.name, *(name for name, _ in options.others)], results)
    warned = any(outcome.warnings for outcome in outcomes)
    if not failures:
        options.say("backup completed with warnings" if warned else "backup completed successfully")
    for outcome in outcomes:
        options.say(backup_output.summary(outcome, exact=options.verbose))
    return failures[0] if failures else 3 if warned else 0
