"""Progress on a terminal: how much, how fast, how long still.  Under cron there is none.

It is one line at the terminal's last, without colours: a carriage return is all that a terminal
must understand, and one that calls itself dumb is shown nothing.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator

import click

from blockdiff.commands import text

_EVERY_S = 0.1
_current: "_Bar | None" = None  # what is shown now


class _Bar:
    """The line; it may be told of what is done by any thread."""

    def __init__(self, label: str, total_bytes: int) -> None:
        self.total = total_bytes
        self._label = label
        self._done = 0
        self._begun = time.monotonic()
        self._drawn = 0.0
        self._width = 0  # characters that are shown
        self._lock = threading.RLock()

    def add(self, done_bytes: int) -> None:
        """Take so many more bytes for done."""
        with self._lock:
            self._done += done_bytes
            if time.monotonic() - self._drawn >= _EVERY_S:
                self._drawn = time.monotonic()
                self._put(self._text(_columns()))

    def clear(self) -> None:
        """Make the line empty."""
        with self._lock:
            self._put("")

    def _put(self, shown: str) -> None:
        # what a wider terminal showed before is in lines above now
        rest = max(min(self._width, _columns()) - len(shown), 0)
        if shown or self._width:
            with contextlib.suppress(OSError):  # a terminal that is gone is no reason to stop
                sys.stderr.write(f"\r{shown}{' ' * rest}" + "\r" * (not shown))
                sys.stderr.flush()
        self._width = len(shown)

    def _text(self, columns: int) -> str:
        """Return the longest line that fits."""
        share = f"{min(100 * self._done // self.total, 100)} %" if self.total else ""
        passed = time.monotonic() - self._begun
        rate = self._done / passed if passed >= 1 else 0.0
        left = f"{_clock((self.total - self._done) / rate)} left" if rate and self._done <= self.total else ""
        amount = f"{text.size(self._done)} of {text.size(self.total)}"
        facts = (share, amount, f"{text.size(int(rate))}/s" if rate else "", left)
        for some in (facts, facts[:2], facts[:1]):
            for label in (f"{self._label}: ", ""):
                line = label + ", ".join(filter(None, some))
                if len(line) <= columns:
                    return line
        return ""


def _columns() -> int:
    """Return how many columns can be written without going to the next line."""
    with contextlib.suppress(OSError):
        return (os.get_terminal_size(sys.stderr.fileno()).columns or 80) - 1
    return 79


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextlib.contextmanager
def shared(label: str, enabled: bool = True) -> Iterator[Callable[[], Callable[[int, int], object]]]:
    """Give a function that returns, for each of several sources, one to be told of what is done, of how many bytes.

    One line shows all of them together. It shows nothing unless `enabled` and stderr is a terminal.
    """
    global _current
    if not enabled or not sys.stderr.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        yield lambda: lambda done_bytes, total_bytes: None
        return
    bar = _current = _Bar(label, 0)

    def source() -> Callable[[int, int], object]:
        known = 0

        def tell(done_bytes: int, total_bytes: int) -> None:
            nonlocal known
            bar.total += total_bytes - known
            known = total_bytes
            bar.add(done_bytes)

        return tell

    try:
        yield source
    finally:
        _current = None
        bar.clear()


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
