"""Bytes of a distant file, fetched in pages: kept for a while, and fetched ahead of who reads in order.

A request takes as long as some hundred KiB do, so no read asks for less than a page, except the first
few bytes of a larger file, which may be all that is wanted.  While pages are read one after the other more and
more of the next ones are fetched meanwhile, up to `most` bytes.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Executor, Future

FIRST = 64  # bytes; a first read of so few is not a page
SMALL = 256 * 1024  # bytes of a page where any bytes are read
LARGE = 4 * 1024 * 1024  # bytes of a page of a file that is read in order
WHOLE = 16 * 1024  # bytes of a file that is fetched whole, whatever is wanted of it
_KEPT = 8  # small pages


class Pages:
    """One file's pages; for any thread."""

    def __init__(self, fetch: Callable[[int, int], bytes], size: int, pool: Executor, most: int) -> None:
        """`fetch` returns (length, offset) of the file's `size` bytes; `most`: bytes that are fetched ahead."""
        self._fetch, self._size, self._pool, self._most = fetch, size, pool, most
        self._page = SMALL
        self._lock = threading.Lock()
        self._pages: OrderedDict[int, Future[bytes]] = OrderedDict()
        self._next = -1  # the page after the last one that was read
        self._ahead = 0  # pages

    def in_order(self) -> None:
        """Expect reads from begin to end."""
        with self._lock:
            if self._page != LARGE:
                self._page = LARGE
                self._pages.clear()

    def pread(self, length: int, offset: int) -> bytes:
        """Return these bytes, fewer only at the end."""
        end = min(offset + length, self._size)
        if offset >= end:
            return b""
        if end <= FIRST and self._page == SMALL and not self._pages and self._size > WHOLE:
            return self._fetch(end - offset, offset)
        first, last = offset // self._page, (end - 1) // self._page
        if self._page == SMALL and last - first >= _KEPT:
            return self._fetch(end - offset, offset)
        parts = []
        for number in range(first, last + 1):
            data = self._wanted(number).result()
            start = number * self._page
            parts.append(data[max(0, offset - start) : end - start])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _wanted(self, number: int) -> Future[bytes]:
        with self._lock:
            found = self._ask(number)
            if self._page == LARGE and number >= self._next:
                most = max(1, self._most // LARGE)
                self._ahead = min(most, 2 * self._ahead or 1) if number == self._next else 0
                self._next = number + 1
                for after in range(number + 1, number + 1 + self._ahead):
                    if after * LARGE < self._size:
                        self._ask(after)
            kept = _KEPT if self._page == SMALL else self._ahead + 2
            while len(self._pages) > kept:
                self._pages.popitem(last=False)[1].cancel()
            return found

    def _ask(self, number: int) -> Future[bytes]:
        found = self._pages.get(number)
        if found is None or (found.done() and (found.cancelled() or found.exception())):
            start = number * self._page
            found = self._pool.submit(self._fetch, min(self._page, self._size - start), start)
            self._pages[number] = found
        else:
            self._pages.move_to_end(number)
        return found
