"""Progress on a terminal: bytes done, speed, time left.  Under cron nothing is shown.

All sources of a run share one line without colours; nothing is shown if TERM is dumb.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Never

import click

if TYPE_CHECKING:
    from tqdm import tqdm

_current: "tqdm[Never] | None" = None  # the bar that is shown now


@contextlib.contextmanager
def shared(label: str, enabled: bool = True) -> Iterator[Callable[[], Callable[[int, int], object]]]:
    """Yield a function that returns, for each of several sources, one to call with (bytes done since, bytes in all).

    Nothing is shown unless `enabled` and stderr is a terminal.
    """
    global _current
    if not enabled or not sys.stderr.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        yield lambda: lambda done_bytes, total_bytes: None
        return

    def source() -> Callable[[int, int], object]:
        known = 0

        def report(done_bytes: int, total_bytes: int) -> None:
            nonlocal known
            if _current is None:
                _begin(label, total_bytes)
            else:
                _current.total = (_current.total or 0) + total_bytes - known
            known = total_bytes
            if _current is not None:
                _current.update(done_bytes)

        return report

    try:
        yield source
    finally:
        if _current is not None:
            _current.close()
        _current = None


def _begin(label: str, total_bytes: int) -> None:
    global _current
    from tqdm import tqdm  # imported only if progress is shown

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
    """Yield a function to call with the number of bytes done since, for one source."""
    with shared(label, enabled) as source:
        report = source()
        yield lambda done_bytes: report(done_bytes, total_bytes)


def line(words: str) -> None:
    """Print a line on stderr; the progress line is cleared before."""
    if _current is not None:
        _current.clear()
    click.echo(words, err=True)
