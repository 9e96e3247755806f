"""Numbers of bytes and times, as options take them."""

import re
import time
from typing import Any

import click

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_TIME = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smhd]?)", re.IGNORECASE)
_SIZE = re.compile(r"([0-9]{1,18})([KMGT]?)(?:i?B)?", re.IGNORECASE)


class Bytes(click.ParamType[int]):
    """A number of bytes: 65536, 64K, 1M."""

    name = "bytes"

    def __init__(self, least: int, most: int) -> None:
        self._least, self._most = least, most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number; fails with a usage error."""
        if isinstance(value, int):
            return value
        match = _SIZE.fullmatch(value.strip())
        if match is None:
            self.fail(f"{value!r} is not a number of bytes such as 65536, 64K or 1M", param, ctx)
        number = int(match[1]) << 10 * " KMGT".index(match[2].upper() or " ")
        if not self._least <= number <= self._most:
            self.fail(f"{number} is not between {self._least} and {self._most} bytes", param, ctx)
        return number


class Seconds(click.ParamType[float]):
    """A time: 90, 90s, 30m, 2h, 1d."""

    name = "time"

    def __init__(self, most: float) -> None:
        self._most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return it in seconds; fails with a usage error."""
        if isinstance(value, float):
            return value
        match = _TIME.fullmatch(value.strip())
        if match is None:
            self.fail(f"{value!r} is not a time such as 90, 30m or 2h", param, ctx)
        seconds = float(match[1]) * _SECONDS[match[2].lower()]
        if not 1 <= seconds <= self._most:
            self.fail(f"{seconds:g} is not between 1 and {self._most:g} seconds", param, ctx)
        return seconds


class Budget(click.ParamType[tuple[float | None, int | None]]):
    """A time or a number of bytes, with a unit: (seconds, None) or (None, bytes)."""

    name = "budget"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float | None, int | None]:
        """Return it; fails with a usage error."""
        if isinstance(value, tuple):
            return value
        span, size = _TIME.fullmatch(value), _SIZE.fullmatch(value)
        if span is not None and span[2] in tuple("smhd"):  # M is no minute here
            return float(span[1]) * _SECONDS[span[2]], None
        if size is not None and size[2]:
            return None, int(size[1]) << 10 * " KMGT".index(size[2].upper())
        raise click.BadParameter(f"{value!r} is neither a time such as 90m or 2h nor a size such as 500G", ctx, param)


class Spending:
    """A budget that begins to be used now; None: there is no end."""

    def __init__(self, budget: tuple[float | None, int | None] | None) -> None:
        seconds, self.bytes = budget or (None, None)
        self._until = None if seconds is None else time.monotonic() + seconds

    def over(self, read: int) -> bool:
        """Return whether it is used up, given the bytes that were read."""
        if self._until is not None and time.monotonic() >= self._until:
            return True
        return self.bytes is not None and read >= self.bytes


budget_option = click.option(
    "--budget", type=Budget(), metavar="TIME|SIZE",
    help="Begin nothing new after so much time, or so many bytes read: 2h, 500G.",
)  # fmt: skip
jobs_option = click.option(
    "--jobs", type=click.IntRange(1, 256), metavar="N", help="Threads.  [default: one for each core]"
)
wait_option = click.option(
    "--wait", type=Seconds(365 * 86400), default=4 * 3600.0, metavar="TIME",
    help="Wait so long for the set's lock, which a backup holds.  [default: 4h]",
)  # fmt: skip
