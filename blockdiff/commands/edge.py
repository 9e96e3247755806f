"""The edge: where an error becomes a line on stderr and an exit code."""

import sys

import click

from blockdiff.errors import BlockdiffError


def run(command: click.Command, prog_name: str) -> None:
    """Run a command as a program; never returns."""
    try:
        command.main(prog_name=prog_name)
    except BlockdiffError as error:
        click.echo(f"blockdiff: {error}", err=True)
        sys.exit(error.exit_code)
