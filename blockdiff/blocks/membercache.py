"""Decompressed members that are kept for the next reader, bounded in bytes.

What is being decompressed counts as used before it begins, with its compressed bytes, so that
no number of threads exceeds the bound.  One thread decompresses a member; others that want it
wait for that one.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar


class Sized(Protocol):
    """What is kept."""

    @property
    def cost(self) -> int:
        """Bytes of memory that it takes."""


_T = TypeVar("_T", bound=Sized)


class _Loading(Generic[_T]):
    """A member that a thread decompresses; it is given to those who wait for it even if it is not kept."""

    item: _T | None = None

    def __init__(self) -> None:
        self.ended = threading.Event()  # one for each: who waits for another member is not woken


class MemberCache(Generic[_T]):
    """The members that were used last; for any number of threads."""

    def __init__(self, limit: int) -> None:
        """`limit`: bytes that all of them may take; a single one may take more while it is used."""
        self._limit = limit
        self._items: OrderedDict[Hashable, _T] = OrderedDict()  # the one that was used last is the last one
        self._loading: dict[Hashable, _Loading[_T]] = {}
        self._changed = threading.Condition()
        self.used = 0  # bytes, those of members under way counted

    def get(self, key: Hashable, cost: int, load: Callable[[], _T]) -> _T:
        """Return the member with this key; where it is not kept, what `load` returns, or raise what it raises.

        `cost`: bytes of memory that loading it takes at most.
        """
        while True:
            with self._changed:
                while True:
                    if (found := self._items.get(key)) is not None:
                        self._items.move_to_end(key)
                        return found
                    other = self._loading.get(key)
                    if other is not None or self._evict(cost) or not self._loading:
                        break
                    self._changed.wait()
                if other is None:
                    own = self._loading[key] = _Loading()
                    self.used += cost
                    break
            other.ended.wait()
            if other.item is not None:
                return other.item
        try:
            own.item = load()
        finally:
            with self._changed:
                self.used -= cost
                del self._loading[key]
                if own.item is not None and self._evict(own.item.cost):
                    self._items[key] = own.item
                    self.used += own.item.cost
                self._changed.notify_all()
            own.ended.set()
        return own.item

    def _evict(self, cost: int) -> bool:
        """Forget those that were not used for the longest time until there is room; return whether there is."""
        while self.used + cost > self._limit and self._items:
            self.used -= self._items.popitem(last=False)[1].cost
        return self.used + cost <= self._limit
