"""cronlog [OPTIONS] -- COMMAND ARGS...: log a cron job's output, print it only if it failed."""

import re
import shutil
import sys
from collections.abc import Sequence

import click

from blockdiff import cronlog
from blockdiff.commands import completing

DONE_WITH_WARNINGS = 3
_NAMES = ("help", "logfile", "print-always", "timestamp", "version")  # their first letters differ
_OPTION = re.compile(r"(?:--|-|\+)([^=]*)(=?)(.*)", re.DOTALL)


def split(words: Sequence[str], anywhere: bool = False) -> tuple[dict[str, str], list[str]]:
    """Return (options by their whole names, COMMAND and its words), as the original parsed them.

    That is what Perl's Getopt::Long does by default: `-` and `+` mean the same as `--`, any beginning
    of a name means the name, in small letters or capitals, and the value is the next word, even if it
    looks like an option, or follows `=`. Options end at `--`, and, unless `anywhere`, at the first word
    that is not an option.
    Raises click.UsageError.
    """
    options: dict[str, str] = {}
    operands: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            break
        match = _OPTION.fullmatch(word)
        if match is None or word == "-":
            operands.append(word)
            if anywhere:
                continue
            break
        start, equals, value = match.groups()
        found = [name for name in _NAMES if start and name.startswith(start.lower())]
        if not found:
            raise click.NoSuchOption(word, possibilities=[f"--{name}" for name in _NAMES])
        (name,) = found
        if name != "logfile":
            if equals:
                raise click.BadOptionUsage(name, f"Option --{name} takes no value.")
        elif equals:
            if not value:
                raise click.BadOptionUsage(name, f"Option --{name} requires an argument.")
        elif rest:
            value = rest.pop(0)
        else:
            raise click.BadOptionUsage(name, f"Option --{name} requires an argument.")
        options[name] = value
    return options, operands + rest


def _meant_otherwise(words: Sequence[str], options: dict[str, str]) -> bool:
    """Return whether the original would have taken options of its own from the words after the command."""
    try:
        return split(words, anywhere=True)[0] != options
    except click.UsageError:
        return False  # it refused such a line


class _Command(click.Command):
    """A command with the original's ways to write options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            options, words = split(args)
        except click.UsageError as error:
            if ctx.resilient_parsing:  # a line that is being completed
                return super().parse_args(ctx, args)
            error.ctx = ctx
            raise
        ends = {"help", "version"} & set(options)
        if ends:
            return super().parse_args(ctx, [f"--{min(ends)}"])
        if _meant_otherwise(args, options) and not ctx.resilient_parsing:
            raise click.UsageError("options of cronlog after COMMAND: write them, or --, before it", ctx)
        ours = [f"--{name}={value}" if name == "logfile" else f"--{name}" for name, value in options.items()]
        return super().parse_args(ctx, [*ours, "--", *words])


@click.command(cls=_Command, context_settings={"allow_interspersed_args": False})
@click.option("-l", "--logfile", type=click.Path(dir_okay=False), help="Append the output to this file.")
@click.option("-t", "--timestamp", is_flag=True, help="Begin every line with the time.")
@click.option("-p", "--print-always", is_flag=True, help="Print the output also if COMMAND succeeded.")
@click.argument(
    "words",
    metavar="[--] COMMAND [ARGS]...",
    nargs=-1,
    required=True,
    type=click.UNPROCESSED,
    shell_complete=completing.files,
)
@click.pass_context
def command(
    context: click.Context, logfile: str | None, timestamp: bool, print_always: bool, words: tuple[str, ...]
) -> None:
    """Run COMMAND, append its output to a log, and print it only if COMMAND failed.

    A COMMAND in one word is a line for a shell: 'cd /srv && make'.

    The exit code is COMMAND's, or 128 + N if signal N ended it.
    """
    if not "".join(words).strip():
        raise click.UsageError("COMMAND is empty")
    result = cronlog.run(words, logfile=logfile or None, timestamp=timestamp)
    for warning in result.warnings:
        click.echo(f"cronlog: {warning}", err=True)
    with result.text as text:
        if result.exit_code or result.warnings or print_always:
            sys.stdout.flush()
            shutil.copyfileobj(text, sys.stdout.buffer)
            sys.stdout.buffer.flush()
    context.exit(result.exit_code or (DONE_WITH_WARNINGS if result.warnings else 0))
