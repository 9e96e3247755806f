"""The lock and the snapshot: options, and the original's environment variables."""

import os
import shlex

import click

from blockdiff.commands.options_source import F
from blockdiff.source import snapshots


def options(function: F) -> F:
    """Give a command the options for the snapshot and the lock."""
    for option in reversed(
        (
            click.option("--snapshot-size", metavar="SIZE", help="Size of the snapshot of a thick logical volume:"
                         " 10G, or 15% of the volume; also SNAPSHOT_SIZE.  [default: 20%, or what is free]"),
            click.option("--lock", metavar="COMMAND", help="Make the snapshot while this lock command holds its lock:"
                         " it is run with a command after it, as in --lock 'mysqllock --host=db00'; also"
                         " LVCREATE_PREFIX."),
        )
    ):  # fmt: skip
        function = option(function)
    return function


def _split(prefix: str) -> list[str]:
    """Return the words of LVCREATE_PREFIX, split as a shell splits an unquoted variable: quotes are ordinary letters.

    Raises ValueError, without any of the text, if a word was meant to contain a blank: the part after
    the blank would be run as a command and shown in the error that there is no such command.
    """
    words = prefix.split()
    for quote in "'\"":
        odd = [word for word in words if word.count(quote) % 2]
        if len(odd) > 1 or any(word.rpartition("=")[2].startswith(quote) for word in odd):
            raise ValueError("it is split at every blank, and there is one between its quotes")
    if any(word.endswith("\\") for word in words):
        raise ValueError("it is split at every blank, and there is one after a backslash")
    return words


def snapshot_size(option: str | None) -> str | None:
    """Return the size of the snapshot from option or environment."""
    return option or os.environ.get("SNAPSHOT_SIZE") or None


def quiesce(option: str | None) -> snapshots.Quiesce | None:
    """Return a function that takes the lock of option or environment; None without one."""
    try:
        words = shlex.split(option) if option else _split(os.environ.get("LVCREATE_PREFIX", ""))
    except ValueError as error:
        origin = "--lock" if option else "LVCREATE_PREFIX"
        hint = "" if option else " (hint: --lock understands quotes as a shell does)"
        raise click.UsageError(f"{origin} cannot be split into words: {error}{hint}") from None
    if not words:
        return None
    from blockdiff.locking import lockcommand  # most backups do not need it

    peers: frozenset[int] = frozenset()
    if os.geteuid() == 0 and os.environ.get("SUDO_UID", "").isdigit():
        peers = frozenset((int(os.environ["SUDO_UID"]),))
    return lambda: lockcommand.locked(words, peers=peers, log=lambda line: click.echo(line, err=True))
