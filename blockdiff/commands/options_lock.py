"""The lock and the snapshot, as options and the original's environment have them."""

import os
import shlex

import click

from blockdiff.commands.options_source import F
from blockdiff.source import snapshots


def options(function: F) -> F:
    """Give a command the options about the moment of the snapshot."""
    for option in reversed(
        (
            click.option("--snapshot-size", metavar="SIZE", help="Room for the snapshot of a thick logical volume:"
                         " 10G, or a share of it, 15%; also SNAPSHOT_SIZE.  [default: 20%, or what is free]"),
            click.option("--lock", metavar="COMMAND", help="Make the snapshot while this lock command holds its lock:"
                         " it is run with a command behind it, as in --lock 'mysqllock --host=db00'; also"
                         " LVCREATE_PREFIX."),
        )
    ):  # fmt: skip
        function = option(function)
    return function


def _split(prefix: str) -> list[str]:
    """Return the words of LVCREATE_PREFIX: as an unquoted variable of a shell has them, quotes are letters.

    Raises ValueError, without any of the text, where a word was meant to have a blank: what is
    behind it would be run as a command, and be in the message that there is none.
    """
    words = prefix.split()
    for quote in "'\"":
        odd = [word for word in words if word.count(quote) % 2]
        if len(odd) > 1 or any(word.rpartition("=")[2].startswith(quote) for word in odd):
            raise ValueError("it is split at every blank, and one stands between its quotes")
    if any(word.endswith("\\") for word in words):
        raise ValueError("it is split at every blank, and one stands behind a backslash")
    return words


def snapshot_size(option: str | None) -> str | None:
    """Return the size of the snapshot that option or environment give."""
    return option or os.environ.get("SNAPSHOT_SIZE") or None


def quiesce(option: str | None) -> snapshots.Quiesce | None:
    """Return what makes the lock that option or environment ask for; None where neither does."""
    try:
        words = shlex.split(option) if option else _split(os.environ.get("LVCREATE_PREFIX", ""))
    except ValueError as error:
        origin = "--lock" if option else "LVCREATE_PREFIX"
        hint = "" if option else " (hint: --lock takes words as a shell has them)"
        raise click.UsageError(f"{origin} cannot be split into words: {error}{hint}") from None
    if not words:
        return None
    from blockdiff.locking import lockcommand  # few backups need it

    peers: frozenset[int] = frozenset()
    if os.geteuid() == 0 and os.environ.get("SUDO_UID", "").isdigit():
        peers = frozenset((int(os.environ["SUDO_UID"]),))
    return lambda: lockcommand.locked(words, peers=peers, log=lambda line: click.echo(line, err=True))
