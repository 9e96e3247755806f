"""Bytes of a distant file, fetched in pages: kept for a while, and fetched ahead of who reads in order.

A request takes as long as some hundred KiB do, so no read asks for less than a page, except the first
few bytes of a larger file, which may be all that is wanted.  While pages are read one after the other more and
more of the next ones are fetched meanwhile, within a reader's share.  Where it is known which parts of a file
will be read, those are fetched and nothing between them; and of small files, all of it beforehand.
"""

import itertools
import os
import tempfile
import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import CancelledError, Executor, Future
from typing import NamedTuple

FIRST = 64  # bytes; a first read of so few is not a page
SMALL = 256 * 1024  # bytes of a page where any bytes are read
LARGE = 8 * 1024 * 1024  # bytes of a page of a file that is read in order
WHOLE = 16 * 1024  # bytes of a file that is fetched whole, whatever is wanted of it
AHEAD = 32 * 1024 * 1024  # bytes of a place's files that are fetched before they are asked for
_KEPT = 8  # small pages

Fetch = Callable[[int, int], bytes]  # given length and offset


class Shares:
    """The bytes that may be fetched ahead, in equal shares for all who read at the same time; for any thread."""

    def __init__(self, most: int) -> None:
        """`most`: bytes, of all together."""
        self._most = most
        self._readers: weakref.WeakSet[Pages | Parts | Kept] = weakref.WeakSet()

    def join(self, reader: "Pages | Parts") -> None:
        """Give a share to who begins to read ahead."""
        self._readers.add(reader)

    def leave(self, reader: "Pages | Parts | Kept") -> None:
        """Take the share of who reads no more, if it has one."""
        self._readers.discard(reader)

    @property
    def each(self) -> int:
        """Bytes of one share."""
        return self._most // max(1, len(self._readers))


class Pages:
    """One file's pages; for any thread."""

    def __init__(self, fetch: Fetch, size: int, pool: Executor, shares: Shares) -> None:
        """`fetch` returns (length, offset) of the file's `size` bytes; `shares`: of what is fetched ahead."""
        self._fetch, self._size, self._pool, self._shares = fetch, size, pool, shares
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
                self._next = 0
                self._shares.join(self)

    def pread(self, length: int, offset: int) -> bytes:
        """Return these bytes, fewer only at the end."""
        end = min(offset + length, self._size)
        if offset >= end:
            return b""
        if end <= FIRST and self._page == SMALL and not self._pages and self._size > WHOLE:
            return self._fetch(end - offset, offset)
        first, last = offset // self._page, (end - 1) // self._page
        if self._page == SMALL and end - offset >= SMALL:
            return self._fetch(end - offset, offset)
        pages = [(number * self._page, self._wanted(number)) for number in range(first, last + 1)]
        data = _cut([(start, page.result()) for start, page in pages], offset, end)
        self._evict()
        return data

    def _wanted(self, number: int) -> Future[bytes]:
        with self._lock:
            found = self._ask(number)
            if self._page == LARGE and number >= self._next:
                most = self._shares.each // LARGE
                self._ahead = min(most, 2 * self._ahead or 1) if number == self._next else 0
                self._next = number + 1
                for after in range(number + 1, number + 1 + self._ahead):
                    if after * LARGE < self._size:
                        self._ask(after)
            return found

    def _evict(self) -> None:
        with self._lock:
            kept = _KEPT if self._page == SMALL else self._ahead + 2
            while len(self._pages) > kept:
                old = self._pages.popitem(last=False)[1]
                if self._page == LARGE:  # else another thread may be waiting for it
                    old.cancel()

    def _ask(self, number: int) -> Future[bytes]:
        found = self._pages.get(number)
        if found is None or (found.done() and (found.cancelled() or found.exception())):
            start = number * self._page
            found = self._pool.submit(self._fetch, min(self._page, self._size - start), start)
            self._pages[number] = found
        else:
            self._pages.move_to_end(number)
        return found


class Kept:
    """One file that is read several times: fetched whole at the first read, and kept on the disk; for any thread."""

    def __init__(self, fetch: Fetch, size: int, pool: Executor, shares: Shares) -> None:
        """Take what Pages take."""
        self._size, self._shares, self._lock = size, shares, threading.Lock()
        self._pages = Pages(fetch, size, pool, shares)
        self._fd: int | None = None  # of a file that has no name

    def in_order(self) -> None:
        """It is fetched so whatever is read of it."""

    def pread(self, length: int, offset: int) -> bytes:
        """Return these bytes, fewer only at the end.  Raises OSError, also if there is no room for it."""
        with self._lock:
            if self._fd is None:
                self._fd = self._fetched()
                weakref.finalize(self, os.close, self._fd)
        return os.pread(self._fd, length, offset)

    def _fetched(self) -> int:
        self._pages.in_order()
        with tempfile.TemporaryFile() as file:
            try:
                for offset in range(0, self._size, LARGE):
                    file.write(self._pages.pread(LARGE, offset))
            finally:
                self._shares.leave(self._pages)
            file.flush()
            return os.dup(file.fileno())


class _Range(NamedTuple):
    """A part of a file that is being fetched, or was."""

    begin: int
    end: int
    data: Future[bytes]


class Parts:
    """One file's parts that will be read, in order; parts with little between them are fetched together."""

    def __init__(
        self, fetch: Fetch, parts: Iterable[tuple[int, int]], size: int, pool: Executor, shares: Shares
    ) -> None:
        """`parts`: (offset, length) in order, taken as they are needed; `shares`: of what is fetched ahead."""
        self._fetch, self._size, self._pool, self._shares = fetch, size, pool, shares
        self._parts = _together(parts, size, shares)
        self._ranges: deque[_Range] = deque()
        self._lock = threading.Lock()
        shares.join(self)

    def pread(self, length: int, offset: int) -> bytes:
        """Return these bytes, fewer only at the end; what is before them is not kept."""
        end = min(offset + length, self._size)
        if offset >= end:
            return b""
        with self._lock:
            while self._ranges and self._ranges[0].end <= offset:
                self._ranges.popleft().data.cancel()
            self._fetch_ahead(end)
            found = [each for each in self._ranges if each.begin < end]
        whole = found and found[0].begin <= offset and end <= found[-1].end
        if not whole or any(one.end != after.begin for one, after in itertools.pairwise(found)):
            return self._fetch(end - offset, offset)
        data = _cut([(each.begin, each.data.result()) for each in found], offset, end)
        with self._lock:  # the last of them may have what the next part shares with this one
            while len(self._ranges) > 1 and self._ranges[1].end <= end:
                self._ranges.popleft()
        return data

    def _fetch_ahead(self, wanted: int) -> None:
        """Begin to fetch what comes next, at least up to `wanted`."""
        ahead = sum(each.end - each.begin for each in self._ranges)
        reached = self._ranges[-1].end if self._ranges else 0
        while (ahead < self._shares.each or reached < wanted) and (part := next(self._parts, None)):
            begin, reached = part
            self._ranges.append(_Range(begin, reached, self._pool.submit(self._fetch, reached - begin, begin)))
            ahead += reached - begin


def _cut(pieces: list[tuple[int, bytes]], begin: int, end: int) -> bytes:
    """Return the bytes from `begin` to `end` out of (offset, bytes) that follow each other."""
    if len(pieces) == 1:
        ((start, data),) = pieces
        return data[begin - start : end - start]
    return b"".join(memoryview(data)[max(0, begin - start) : end - start] for start, data in pieces)


def _together(parts: Iterable[tuple[int, int]], size: int, shares: Shares) -> Iterator[tuple[int, int]]:
    """Yield where requests for these parts of a file begin and end, none longer than a large page or a share.

    A part that fits into one request is not divided: who reads gets it without its pieces being joined.
    """
    begin = end = before = 0
    for offset, length in parts:
        if offset < before or offset + length > size:
            break  # of a damaged index: who reads will find out
        page = max(SMALL, min(LARGE, shares.each))
        if offset - end > SMALL or begin == end or offset + length - begin > page:
            if begin < end:
                yield begin, end
            begin = max(end, offset)
        end, before = max(end, offset + length), offset
        while end - begin > page:
            yield begin, begin + page
            begin += page
    if begin < end:
        yield begin, end


class Begins:
    """The first bytes of files, fetched before they are read, and the last ones kept; for any thread."""

    def __init__(self, pool: Executor, most: int) -> None:
        """`most`: bytes that are kept."""
        self._pool, self._most = pool, most
        self._kept: OrderedDict[Hashable, tuple[int, Future[bytes]]] = OrderedDict()  # lengths, bytes
        self._bytes = 0
        self._lock = threading.Lock()

    def expect(self, files: Iterable[tuple[Hashable, int, Fetch]]) -> None:
        """Begin to fetch so many first bytes of files, unless they are kept; of too many only some."""
        asked = 0
        for key, length, fetch in files:
            asked += length
            if asked > self._most // 2:
                return
            with self._lock:
                known = self._kept.get(key)
                if length and (known is None or known[0] < length):
                    self._forget(key)
                    self._kept[key] = length, self._pool.submit(fetch, length, 0)
                    self._bytes += length
                while self._bytes > self._most:
                    self._forget(next(iter(self._kept)))

    def of(self, key: Hashable, end: int) -> bytes | None:
        """Return a file's first bytes, up to `end` at least; None if they are not kept.  Raises what fetching did."""
        with self._lock:
            length, found = self._kept.get(key, (0, None))
            if found is None or length < end:
                return None
            self._kept.move_to_end(key)
        try:
            return found.result()
        except CancelledError:
            return None
        except Exception:
            with self._lock:
                self._forget(key)
            raise

    def _forget(self, key: Hashable) -> None:
        length, found = self._kept.pop(key, (0, None))
        self._bytes -= length
        if found is not None:
            found.cancel()
