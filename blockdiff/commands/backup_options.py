"""What a blockdiff-backup line asks for."""

from dataclasses import dataclass
from typing import Any

import click

from blockdiff.commands import dump_arguments, options_source, progress
from blockdiff.place import choose


@dataclass(frozen=True)
class Options:
    """What a command line asks for."""

    name: str
    source: str | None
    words: list[str]  # of the COMMAND
    reach: options_source.Reach
    compress: str | None
    block_size: int | None  # bytes
    full: bool
    no_auto_full: bool
    no_snapshot: bool
    snapshot_size: str | None
    lock: str | None
    others: tuple[tuple[str, str], ...]  # NAME and SOURCE of each --with
    rescan: bool
    hints: bool
    new_source: bool
    break_lease: bool
    sign: str | None  # path of a key
    dry_run: bool
    as_json: bool
    quiet: bool
    verbose: bool

    @property
    def program(self) -> str | None:
        """The dump command of ours that COMMAND is, if it is one."""
        return dump_arguments.known(self.words[0]) if self.words else None

    def say(self, line: str) -> None:
        """Print a line for the log."""
        if not self.quiet:
            progress.line(line)

    def warn(self, line: str) -> None:
        """Print a warning."""
        progress.line(f"blockdiff: warning: {line}")

    def chatter(self, line: str) -> None:
        """Print a line of the agent's command."""
        if self.verbose:
            progress.line(line)


def read(context: click.Context, parameters: dict[str, Any]) -> Options:
    """Return what was parsed.  Raises click.UsageError if there is neither a SOURCE nor a COMMAND, or both."""
    options = Options(reach=options_source.take_reach(parameters), words=context.obj, **parameters)
    if (options.source is None) == (not options.words):
        raise click.UsageError("NAME and a SOURCE, or NAME and a COMMAND, are needed")
    names = [options.name, *(name for name, _ in options.others)]
    if options.break_lease and not any(map(choose.in_store, names)):
        raise click.UsageError("--break-lease is for a set in an object store; a folder's lock ends with its run")
    return options
