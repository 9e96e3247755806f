"""An object of a store that is open for reading; see place.base.Blob."""

import functools
from collections.abc import Iterable
from concurrent.futures import Executor
from typing import Protocol

from blockdiff.place.ahead import WHOLE, Begins, Kept, Pages, Parts, Shares
from blockdiff.place.base import Look
from blockdiff.place.listing import Entry


def look_of(entry: Entry) -> Look:
    """Return how an object looks from outside."""
    return Look(entry.size, entry.modified * 10**9, entry.etag)


class Source(Protocol):
    """Where objects come from."""

    pool: Executor
    begins: Begins
    shares: Shares

    def fetch(self, name: str, entry: Entry, length: int, offset: int) -> bytes:
        """Return these bytes of an object."""


class Object:
    """One object; its bytes are those with one mark, whatever becomes of its name."""

    def __init__(
        self, store: Source, name: str, entry: Entry, begin: bytes = b"", pages: Pages | Parts | Kept | None = None
    ) -> None:
        """`begin`: its first bytes, as far as they are known."""
        self._store, self._name, self._entry, self._begin = store, name, entry, begin
        # not a method: pages that knew their object would stay in memory after it, until that is collected
        self._fetch = functools.partial(store.fetch, name, entry)
        self._paging = self._fetch, entry.size, store.pool, store.shares
        self._pages: Pages | Parts | Kept = pages or Pages(*self._paging)

    @property
    def size(self) -> int:
        return self._entry.size

    def look(self) -> Look:
        return look_of(self._entry)

    def pread(self, length: int, offset: int) -> bytes:
        end = min(offset + length, self.size)
        begin: bytes | None = self._begin
        if len(self._begin) < end:
            begin = self._store.begins.of((self._name, self._entry), end)
        return self._pages.pread(length, offset) if begin is None else begin[offset:end]

    def in_order(self) -> None:
        if self.size > WHOLE and not isinstance(self._pages, Kept):
            pages = Pages(*self._paging)
            pages.in_order()
            self._pages = pages

    def keep(self) -> None:
        """Fetch it once, at its first read, however often it is read, also of those that `again` returns."""
        self._pages = Kept(*self._paging)

    def expect(self, parts: Iterable[tuple[int, int]]) -> None:
        self._pages = Parts(self._fetch, parts, self.size, self._store.pool, self._store.shares)

    def again(self) -> "Object":
        return Object(self._store, self._name, self._entry, self._begin, self._pages)

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        self._store.shares.leave(self._pages)
