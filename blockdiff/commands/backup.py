"""blockdiff-backup [OPTIONS] NAME SOURCE, or NAME COMMAND ARGS... as the original composes it."""

import dataclasses
import json
import os
import shlex
import sys
from collections.abc import Sequence
from typing import Any

import click

from blockdiff import backup, foreign
from blockdiff.commands import dumpline, progress, reaching
from blockdiff.store import Store
from blockdiff.transport.destination import Destination, parse_source

_SUFFIXES = {"gzip": ".gz", "zstd": ".zst", "none": ""}


def split(args: Sequence[str], with_value: frozenset[str], always_command: bool) -> tuple[list[str], list[str]]:
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
            if len(behind) > 2 or always_command or (len(behind) == 2 and dumpline.known(behind[1])):
                words = behind[2:] if behind[1:2] == ["--"] else behind[1:]
                return [*args[: place + 1], *behind[:1]], words
            return list(args), []
        if word.startswith("-") and len(word) > 1:
            place += 2 if word in with_value else 1
            continue
        operands.append(place)
        if len(operands) == 2 and (always_command or dumpline.known(word)):
            return list(args[:place]), list(args[place:])
        place += 1
    if len(operands) > 2:
        return list(args[: operands[1]]), list(args[operands[1] :])
    return list(args), []


class _Command(click.Command):
    """A command whose words behind NAME may be another command's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with_value = frozenset(
            name
            for parameter in self.params
            if isinstance(parameter, click.Option) and not parameter.is_flag
            for name in parameter.opts
            if parameter.flag_value is None or not parameter.is_flag
        )
        own, words = split(args, with_value, always_command=ctx.info_name == "blockdiff_backup")
        ctx.obj = words
        return super().parse_args(ctx, own)


@click.command(cls=_Command)
@click.option("--compress", type=click.Choice(list(_SUFFIXES)), help="How the diff file is stored.  [default: gzip]")
@click.option("-z", "--gzip", "compress", flag_value="gzip", help="The same as --compress gzip.")
@click.option("--zstd", "compress", flag_value="zstd", help="The same as --compress zstd.")
@click.option("--block-size", "--blocksize", "block_size", type=reaching.BLOCK_SIZE, metavar="BYTES",
              help="Size of a block, 1 to 16M; must be the set's, unless a full is made.  [default: the set's,"
              " else BLOCKSIZE, else 64K]")  # fmt: skip
@click.option("--full", is_flag=True, help="Store every block, whatever the version before holds.")
@click.option("--no-auto-full", is_flag=True, help="Stop where the version before cannot be built upon.")
@click.option("--rescan", is_flag=True, help="Compute the MD5 of every block, also where XXH3-128 tells no change.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as one JSON object.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but warnings and errors.")
@click.option("-v", "--verbose", is_flag=True, help="Say more, also what the agent says.")
@reaching.options
@click.argument("name", metavar="NAME")
@click.argument("source", metavar="SOURCE | COMMAND [ARGS]...", required=False)
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
            click.echo(line, err=True)

    def warn(line: str) -> None:
        click.echo(f"blockdiff: warning: {line}", err=True)

    def chatter(line: str) -> None:
        if verbose:
            click.echo(line, err=True)

    reach = reaching.Reach(**reach_options)
    store = Store(name)
    program = dumpline.known(words[0]) if words else None
    if words and program is None:
        given = [o for o in ("compress", "block_size", "rescan") if context.params[o]]
        if given:
            raise click.UsageError(f"{words[0]} decides for itself: --{given[0].replace('_', '-')} cannot be given")
        say(f"running: {shlex.join(words)}")
        outcome = foreign.run(
            store, words, environment=dict(os.environ), auto_full=not no_auto_full, full=full, warn=warn
        )
    else:
        destination, wanted = _wanted(source, program, words, compress, block_size)
        wanted = dataclasses.replace(
            wanted,
            full=full,
            auto_full=not no_auto_full,
            rescan=rescan,
            jobs=reach.jobs,
            bwlimit=reach.bwlimit,
            timeout_s=reach.timeout,
        )
        say(f"running: {shlex.join(words) if words else source}")
        with progress.shown(name, enabled=not quiet and sys.stderr.isatty()) as shown:
            outcome = backup.run(
                store, wanted, reach.connect(destination, chatter), cores=reaching.cores(), warn=warn, progress=shown
            )
    if as_json:
        click.echo(json.dumps(outcome.as_json(), sort_keys=True))
    if verbose or (sys.stderr.isatty() and not quiet):
        say(_summary(outcome))
    say("backup completed successfully" if outcome.exit_code == 0 else "backup completed with warnings")
    context.exit(outcome.exit_code)


def _wanted(
    source: str | None, program: str | None, words: list[str], compress: str | None, block_size: int | None
) -> tuple[Destination | None, backup.Wanted]:
    """Return where the volume is and what is wanted of it."""
    if source is not None:
        try:
            destination, path = parse_source(source)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        default = reaching.environment_block_size(os.environ) or backup.DEFAULT_BLOCK_SIZE
        suffix = _SUFFIXES[compress or "gzip"]
    else:
        assert program is not None
        line = dumpline.parse(program, words[1:])
        if line.path is None:
            raise click.UsageError(f"{words[0]} needs a FILE here")
        destination, path, default = line.destination, line.path, line.default_block_size
        suffix = _SUFFIXES[compress] if compress else line.suffix
        if block_size is not None and line.block_size not in (None, block_size):
            raise click.UsageError("two different block sizes are given")
        block_size = block_size or line.block_size
    wanted = backup.Wanted(
        path=path if destination is not None else os.path.abspath(path),
        suffix=suffix,
        block_size=block_size,
        default_block_size=default,
        pack_wire=destination is not None,
    )
    return destination, wanted


def _summary(outcome: backup.Outcome) -> str:
    size = "unknown size" if outcome.size is None else f"{outcome.size} bytes"
    return (
        f"version {outcome.version} of {outcome.name}: {outcome.kind}, {outcome.changed} of {outcome.blocks} blocks"
        f" changed, {size}, {outcome.stored} bytes stored, {outcome.seconds:.1f} s"
    )
