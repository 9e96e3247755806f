"""cronlog [OPTIONS] -- COMMAND ARGS...: log a cron job's output, print it only if it failed."""

import shutil
import sys

import click

from blockdiff import cronlog

DONE_WITH_WARNINGS = 3


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("-l", "--logfile", type=click.Path(dir_okay=False), help="Append the output to this file.")
@click.option("-t", "--timestamp", is_flag=True, help="Begin every line with the time.")
@click.option("--print-always", is_flag=True, help="Print the output also if COMMAND succeeded.")
@click.argument("words", metavar="[--] COMMAND [ARGS]...", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def command(
    context: click.Context, logfile: str | None, timestamp: bool, print_always: bool, words: tuple[str, ...]
) -> None:
    """Run COMMAND, append its output to a log, and print it only if COMMAND failed.

    The exit code is COMMAND's, or 128 + N if it died with signal N.
    """
    outcome = cronlog.run(words, logfile=logfile, timestamp=timestamp)
    for warning in outcome.warnings:
        click.echo(f"cronlog: {warning}", err=True)
    with outcome.text as text:
        if outcome.exit_code or outcome.warnings or print_always:
            sys.stdout.flush()
            shutil.copyfileobj(text, sys.stdout.buffer)
            sys.stdout.buffer.flush()
    context.exit(outcome.exit_code or (DONE_WITH_WARNINGS if outcome.warnings else 0))
