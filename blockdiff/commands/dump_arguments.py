"""The original's dump commands, as words: alone, or after `blockdiff-backup NAME`.

Each takes options and operands; -z/--gzip, --lzop decide the diff file's suffix, none of
them means plain.  Their default block sizes are the original's, not blockdiff-backup's.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

from blockdiff.commands import options_source
from blockdiff.transport.destination import Destination, parse_host_argument

DUMP, SSH_DUMP, LVM_DUMP = "blockdiff-dump", "ssh-blockdiff-dump", "ssh-lvm-dump"
_DEFAULT_BLOCK_SIZES = {DUMP: 16 * 1024, SSH_DUMP: 16 * 1024, LVM_DUMP: 1024 * 1024}  # bytes
_HOST_WORDS = re.compile(r"-[^-\s]\S*\s")  # none of our short options takes a value


@dataclass(frozen=True)
class DumpLine:
    """The values of such a command line."""

    program: str  # DUMP, SSH_DUMP or LVM_DUMP
    destination: Destination | None  # None: this machine
    path: str | None  # None: standard input
    suffix: str  # of the diff file
    block_size: int | None  # bytes, an explicit option
    default_block_size: int  # bytes


def known(word: str) -> str | None:
    """Return which of these commands a word names, with dashes or underscores, in any folder."""
    name = os.path.basename(word).replace("_", "-")
    return name if name in _DEFAULT_BLOCK_SIZES else None


def options(function: options_source.F) -> options_source.F:
    """Give a command the options that all of these have."""
    for option in reversed(
        (
            click.option("-z", "--gzip", "suffix", flag_value=".gz", help="Compress as gzip."),
            click.option("--lzop", "suffix", flag_value=".lzop", help="Compress through the lzop program."),
            click.option("--zstd", "suffix", flag_value=".zst", help="Compress as Zstandard."),
            click.option("--blocksize", "--block-size", "block_size", type=options_source.BLOCK_SIZE, metavar="BYTES",
                         help="Size of a block, 1 to 16M; must be the old digest file's.  [default: that, else"
                         " BLOCKSIZE, else 16K; 1M for ssh-lvm-dump]"),
        )
    ):  # fmt: skip
        function = option(function)
    return function


class HostCommand(click.Command):
    """A command with a host argument, which may begin with options of ssh: "-p 2222 root@db00", in one word."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _hide_host_words(args))


def _hide_host_words(words: Sequence[str]) -> list[str]:
    """Put a blank before words that are options of ssh and a host, so that they are no options of ours."""
    return [f" {word}" if _HOST_WORDS.match(word) else word for word in words]


def line(program: str, suffix: str | None, block_size: int | None, operands: Sequence[str]) -> DumpLine:
    """Build it from what was parsed.  Raises click.UsageError."""
    words = list(operands)
    destination = None
    if program != DUMP:
        if len(words) != 2:
            raise click.UsageError(f"{program} takes [user@]host and a path, got {len(words)} operands")
        try:
            destination = parse_host_argument(words.pop(0))
        except ValueError as error:
            raise click.UsageError(str(error)) from None
    if len(words) > 1:
        raise click.UsageError(f"{program} takes one FILE, got {len(words)}")
    default = options_source.environment_block_size(os.environ) or _DEFAULT_BLOCK_SIZES[program]
    return DumpLine(program, destination, words[0] if words else None, suffix or "", block_size, default)


@click.command(add_help_option=False)
@options
@click.argument("operands", nargs=-1, type=click.UNPROCESSED)
def _composed(**parameters: Any) -> None:
    """Only parsed, never run."""


def parse(program: str, words: Sequence[str]) -> DumpLine:
    """Parse the words after a known command's name.  Raises click.UsageError."""
    context = _composed.make_context(program, list(words) if program == DUMP else _hide_host_words(words))
    found = context.params
    return line(program, found["suffix"], found["block_size"], found["operands"])
