"""What commands take for sets in object stores, and refuse."""

import datetime
import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from blockdiff.commands import amounts, completing, text
from blockdiff.place import choose
from blockdiff.place.base import Access

if TYPE_CHECKING:
    from blockdiff.sealing.keys import Identity

F = TypeVar("F", bound=Callable[..., Any])

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


@dataclass(frozen=True)
class Reading:
    """How sets are to be read."""

    as_of: int | None  # seconds since 1970
    paths: tuple[str, ...]  # of files with identities

    def access(self, operands: Sequence[str]) -> Access:
        """Return what it is for these sets.  Raises click.UsageError or StoreUnreadable."""
        for operand in operands if self.as_of is not None else ():
            if not choose.in_store(operand):
                raise click.UsageError(f"--as-of is for object stores; {text.name(operand)} is in a folder")
        return Access(as_of=self.as_of, identities=_identities(self.paths))


NOW = Reading(None, ())


@functools.cache
def _identities(paths: tuple[str, ...]) -> "tuple[Identity, ...]":
    if not paths:
        return ()
    from blockdiff.sealing import keys  # what it needs takes a while to load

    try:
        return tuple(keys.identities(paths))
    except keys.BadKey as error:
        raise click.UsageError(f"--identity: {error}") from None


def _options(function: F, as_of: bool) -> F:
    @functools.wraps(function)
    def call(*arguments: Any, **more: Any) -> Any:
        reading = Reading(more.pop("as_of", None), more.pop("identity_files"))
        return function(*arguments, reading=reading, **more)

    identity = click.option(
        "--identity", "identity_files", multiple=True, metavar="FILE", shell_complete=completing.files,
        help="Open sealed files with the private keys in FILE, as age-keygen writes it.",
    )  # fmt: skip
    at = click.option(
        "--as-of", type=Moment(), metavar="TIME",
        help="Read a bucket that keeps versions as it was then, whatever was deleted or overwritten since.",
    )  # fmt: skip
    return cast(F, at(identity(call)) if as_of else identity(call))


def options(function: F) -> F:
    """Give a command the options that say how sets are read; it gets a Reading as `reading`."""
    return _options(function, as_of=True)


def options_now(function: F) -> F:
    """Give a command those of them that fit what is about sets as they are."""
    return _options(function, as_of=False)


def refuse(path: str, why: str) -> None:
    """Raise click.UsageError if a path is of an object store; `why`: what cannot be there."""
    if choose.in_store(path):
        raise click.UsageError(f"{text.name(path)}: {why}")
