"""Progress on a terminal: how much, how fast, how long still.  Under cron there is none.

One line without colours shows all sources of a run together; a terminal that calls itself dumb is
shown nothing.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Never

import click

if TYPE_CHECKING:
    from tqdm import tqdm

_current: "tqdm[Never] | None" = None  # what is shown now


@contextlib.contextmanager
def shared(label: str, enabled: bool = True) -> Iterator[Callable[[], Callable[[int, int], object]]]:
    """Give a function that returns, for each of several sources, one to be told of what is done, of how many bytes.

    It shows nothing unless `enabled` and stderr is a terminal.
    """
    global _current
    if not enabled or not sys.stderr.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        yield lambda: lambda done_bytes, total_bytes: None
        return

    def source() -> Callable[[int, int], object]:
        known = 0

        def tell(done_bytes: int, total_bytes: int) -> None:
            nonlocal known
            if _current is None:
                _begin(label, total_bytes)
            else:
                _current.total = (_current.total or 0) + total_bytes - known
            known = total_bytes
            if _current is not None:
                _current.update(done_bytes)

        return tell

    try:
        yield source
    finally:
        if _current is not None:
            _current.close()
        _current = None


def _begin(label: str, total_bytes: int) -> None:
    global _current
    from tqdm import tqdm  # loaded where somebody looks

    _current = tqdm(
        total=total_bytes,
        desc=label,
        unit="B",
        unit_scale=True,
        unit_divisor=1024,
        file=sys.stderr,
        leave=False,
        dynamic_ncols=True,  # the terminal's width may change
    )


@contextlib.contextmanager
def progress(total_bytes: int, label: str, enabled: bool = True) -> Iterator[Callable[[int], object]]:
    """Give a function to be told of every so many bytes that are done, of one thing."""
    with shared(label, enabled) as source:
        tell = source()
        yield lambda done_bytes: tell(done_bytes, total_bytes)


def line(words: str) -> None:
    """Print a line on stderr; progress makes room for it."""
    if _current is not None:
        _current.clear()
    click.echo(words, err=True)
