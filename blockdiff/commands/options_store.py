"""What commands take for sets in object stores, and refuse."""

import datetime
import time
from collections.abc import Sequence
from typing import Any

import click

from blockdiff.commands import amounts, text
from blockdiff.place import choose
from blockdiff.place.base import PLAIN, Access

_AGO = amounts.Seconds(100 * 365 * 86400)


class Moment(click.ParamType[int]):
    """A time in the past: 2026-11-25, 2026-11-25T18:30, 2026-11-25T18:30:00+01:00, or for how long ago 90m, 2d."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return it in seconds since 1970; fails with a usage error."""
        if isinstance(value, int):
            return value
        now = time.time()
        if value[-1:].lower() in tuple("smhd"):
            return int(now - _AGO.convert(value, param, ctx))
        try:
            found = int(datetime.datetime.fromisoformat(value.strip()).timestamp())
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is not a time such as 2026-11-25, 2026-11-25T18:30, 90m or 2d", param, ctx)
        if found > now:
            self.fail(f"{value!r} is in the future", param, ctx)
        return found


as_of_option = click.option(
    "--as-of", type=Moment(), metavar="TIME",
    help="Read a bucket that keeps versions as it was then, whatever was deleted or overwritten since.",
)  # fmt: skip


def access(as_of: int | None, operands: Sequence[str]) -> Access:
    """Return how these sets are read.  Raises click.UsageError."""
    if as_of is None:
        return PLAIN
    for operand in operands:
        if not choose.in_store(operand):
            raise click.UsageError(f"--as-of is for object stores; {text.name(operand)} is in a folder")
    return Access(as_of=as_of)


def refuse(path: str, why: str) -> None:
    """Raise click.UsageError if a path is of an object store; `why`: what cannot be there."""
    if choose.in_store(path):
        raise click.UsageError(f"{text.name(path)}: {why}")
