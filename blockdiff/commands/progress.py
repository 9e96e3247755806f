"""Progress on a terminal: how much, how fast, how long still.  Under cron there is none."""

import contextlib
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def progress(total_bytes: int | None, label: str, enabled: bool = True) -> Iterator[Callable[[int], object]]:
    """Give a function to be told of every so many bytes that are done.

    It shows nothing unless `enabled` and stderr is a terminal; total_bytes None: not known.
    """
    if not enabled or not sys.stderr.isatty():
        yield lambda done_bytes: None
        return
    from tqdm import tqdm

    bar = tqdm(
        total=total_bytes, desc=label, unit="B", unit_scale=True, unit_divisor=1024, file=sys.stderr, leave=False
    )
    try:
        yield bar.update
    finally:
        bar.close()


@contextlib.contextmanager
def shown(label: str, enabled: bool = True) -> Iterator[Callable[[int, int], object]]:
    """Give a function to be told of every so many bytes that are done, of how many; its first call begins the bar."""
    with contextlib.ExitStack() as held:
        advance: Callable[[int], object] | None = None

        def tell(done_bytes: int, total_bytes: int) -> None:
            nonlocal advance
            if advance is None:
                advance = held.enter_context(progress(total_bytes, label, enabled))
            advance(done_bytes)

        yield tell
