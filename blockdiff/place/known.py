"""What is known of the objects of a store, so that it is not asked for again."""

import contextlib
import threading
from collections.abc import Iterator

from blockdiff.formats import names as set_names
from blockdiff.place.lease import Lease
from blockdiff.place.listing import Entry


class Known:
    """What was listed of one prefix; for any thread.

    While a run has the lock of a set, what was listed of it stays true until that run changes an object.
    """

    def __init__(self, forever: bool) -> None:
        """`forever`: what was listed is of the past, and so always true."""
        self._forever = forever
        self.listed: dict[str, Entry] = {}  # by name
        self.leases: dict[str, Lease | None] = {}  # that this run has, by set; None: a lock on this machine
        self._begins: list[str] = []  # what all names that were listed begin with
        self._fresh: set[str] = set()  # the sets of `leases` of which what was listed is still true
        self._unknown: set[str] = set()  # names that this run changes, or has changed since they were listed
        self._lock = threading.Lock()

    def names(self, begin: str) -> list[str] | None:
        """Return the names that begin so, None if that must be asked for."""
        with self._lock:
            known = self._forever and any(begin.startswith(each) for each in self._begins)
            if known or begin.removesuffix(".") in self._fresh:
                return [name for name in self.listed if name.startswith(begin)]
        return None

    def put(self, begin: str, found: dict[str, Entry]) -> None:
        """Take what was listed of the names that begin so."""
        with self._lock:
            self.listed = {name: at for name, at in self.listed.items() if not name.startswith(begin)} | found
            self._begins = [each for each in self._begins if not each.startswith(begin)] + [begin]
            self._unknown = {name for name in self._unknown if not name.startswith(begin)}
            self._fresh |= {begin.removesuffix(".")} & self.leases.keys()

    def entry(self, name: str) -> tuple[Entry | None, bool]:
        """Return an object as it was listed, and whether it would have been; then None says that it is not there."""
        with self._lock:
            listed = name not in self._unknown and any(name.startswith(begin) for begin in self._begins)
            return self.listed.get(name), listed

    def is_fresh(self, base: str) -> bool:
        """Return whether what was listed of a set is still true."""
        return base in self._fresh

    def change(self, name: str) -> None:
        """Forget what is known of an object that this run is about to change."""
        with self._lock:
            self.listed.pop(name, None)
            self._unknown.add(name)
            self._fresh.discard(set_names.owner(name, self._fresh) or "")

    @contextlib.contextmanager
    def locked(self, base: str, own: Lease | None) -> Iterator[None]:
        """This run has the lock of a set: its lease, which listed it, or None for a lock on this machine."""
        with self._lock:
            self.leases[base] = own
            self._fresh |= {base} if own is not None else set()
        try:
            yield
        finally:
            with self._lock:
                del self.leases[base]
                self._fresh.discard(base)
