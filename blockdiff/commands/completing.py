"""Completion of operands on TAB: names of sets, or files.

click asks these functions when a shell's script of blockdiff/completion calls a program with
_PROGRAM_COMPLETE in its environment.  A type other than `plain` is completed by the shell itself.
"""

from __future__ import annotations  # CompletionItem is generic for mypy only, before click 8.5

import os

import click
from click.shell_completion import CompletionItem

from blockdiff.formats import names


def files(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Offer files."""
    return [CompletionItem(incomplete, type="file")]


def sets(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Offer the sets whose names begin so, and folders; files if there is no such set."""
    typed, slash, start = incomplete.rpartition("/")
    try:
        found = names.set_names(os.listdir(os.path.expanduser(typed + slash) or "."))
    except OSError:
        found = []
    items = [CompletionItem(typed + slash + name) for name in sorted(found) if name.startswith(start)]
    return [*items, CompletionItem(incomplete, type="dir")] if items else files(context, parameter, incomplete)


def set_then_files(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Offer sets for the first operand, files for the others."""
    return (files if context.params.get(str(parameter.name)) else sets)(context, parameter, incomplete)
