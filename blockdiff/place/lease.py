"""The lease on a set in an object store: who writes the set, where no lock of one machine's kernel says it.

It is a chain of objects NAME.lease-G, each made by a request that makes an object only if there is none of its
name.  The highest G counts.  To take the lease, to renew it and to take it over is the same: to make G + 1, and only
one of all that try can.  It is taken over when the highest one is older than DEAD_S, by the store's clock alone.
Who holds it renews it every RENEW_S, and writes nothing more LOST_S after its last renewal, by a clock of its
own that also runs while the machine sleeps.  At the end it gives its last object another content, which gives
the lease back.  Older objects are removed in the order of their numbers: so if the one that a run has made
last is still there when it has made the next, nobody has gone past it meanwhile.
Format: blockdiff-formats(5), "Object stores".
"""

import contextlib
import hashlib
import json
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from blockdiff.errors import BlockdiffError, ForeignFiles, SetLocked, StoreRefused
from blockdiff.place.bucket import Bucket
from blockdiff.place.listing import Entry
from blockdiff.printable import quoted

RENEW_S = 60.0  # between two renewals
LOST_S = 150.0  # after the last one, by our clock: nothing is written any more
LEFT_S = 100.0  # of these that must be left when a version appears
DEAD_S = 300  # after the last one, by the store's clock: others may take it over
READ_S = 20.0  # for one answer about the lease, or about what makes a version appear
RETRIES = 2  # of these: three attempts, each of which takes CONNECT_S and READ_S at most, end within LEFT_S
_LOOK_S = 1.0  # between two looks at a lease that another run has
_MAX_BODY = 4096  # bytes
_LAST = 10**17  # no run comes near this number
_NAME = re.compile(r"\.lease-([1-9][0-9]{0,17})", re.ASCII)
_RELEASED = b'{"released": true}\n'
_RELEASED_MARK = hashlib.md5(_RELEASED, usedforsecurity=False).hexdigest()


def clock() -> float:
    """Return seconds that also go on while this machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def number_of(base: str, name: str) -> int | None:
    """Return the G of a lease of set `base`, None if a file of this name is none."""
    found = _NAME.fullmatch(name, len(base)) if name.startswith(base) else None
    return int(found[1]) if found else None


def any_of(base: str, names: Iterable[str]) -> bool:
    """Return whether one of these names is that of a lease of set `base`."""
    return any(number_of(base, name) is not None for name in names)


class Lease:
    """One run's lease on the set `base`.  For any thread."""

    def __init__(self, bucket: Bucket, base: str, *, may_break: bool = False) -> None:
        """`bucket`: with READ_S and RETRIES; `may_break`: take over what another run holds."""
        self._bucket, self._base, self._may_break = bucket, base, may_break
        self._body = json.dumps(
            {"host": socket.gethostname()[:255], "run": secrets.token_hex(8), "pid": os.getpid()}
        ).encode() + b"\n"  # fmt: skip
        self._number = 0  # of the lease that we hold
        self._since = 0.0  # by `clock`, when it was asked for
        self._older: list[int] = []  # that are still there, in order
        self._lost = ""  # why we do not hold it any more
        self._ended = threading.Event()
        self._mutex = threading.Lock()

    @contextlib.contextmanager
    def held(self, listed: Callable[[], Mapping[str, Entry]], patience_s: float) -> Iterator[None]:
        """Hold it, and renew it meanwhile; `listed` returns the set's objects as they are now.

        What it has returned last stays true, but for what this run changes.
        Raises SetLocked if another run still holds it after `patience_s`, StoreRefused if this store cannot keep it.
        """
        until = clock() + patience_s
        while True:
            found = self._of(listed())
            waits = self._holder(found)
            if waits is None or clock() >= until:
                break
            self._ended.wait(_LOOK_S)
        if waits is not None:
            raise SetLocked(self._bucket.shown(self._base), hint=waits)
        self._take(found)
        thread = threading.Thread(target=self._renew_again, name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()
            self._release()

    def check(self) -> None:
        """Raise SetLocked unless we surely hold it."""
        if not self._lost and clock() - self._since > LOST_S:
            self._lost = f"its lease could not be renewed for {LOST_S:g} s"
        if self._lost:
            raise SetLocked(
                self._bucket.shown(self._base), hint=f"{self._lost}; this run has published nothing since: run again"
            )

    def secure(self) -> None:
        """Make sure that we hold it for LEFT_S more.  Raises SetLocked, or what the store did."""
        self.check()
        if clock() - self._since > LOST_S - LEFT_S:
            self.renew()

    def confirm(self) -> None:
        """Raise SetLocked if another run has taken it over: the store is asked; what fails at that is no answer."""
        try:
            self.renew()
        except SetLocked:
            raise
        except BlockdiffError:
            self.check()

    def renew(self) -> None:
        """Make the next one.  Raises SetLocked if another run has, or what the store did."""
        with self._mutex:
            self.check()
            begun = clock()
            if not self._bucket.create_once(self._name(self._number + 1), self._body):
                self._lost = "another run has taken it over"
            elif self._bucket.head(self._name(self._number)) is None:
                self._lost = "other runs have taken it over"
            else:
                self._older.append(self._number)
                self._number, self._since = self._number + 1, begun
                self._remove_older()
            self.check()

    def _name(self, number: int) -> str:
        return f"{self._base}.lease-{number}"

    def _of(self, listed: Mapping[str, Entry]) -> dict[int, Entry]:
        """Return the set's leases by their numbers."""
        numbers = {number_of(self._base, name): entry for name, entry in listed.items()}
        found = {number: entry for number, entry in numbers.items() if number is not None}
        if found and max(found) >= _LAST:
            raise ForeignFiles(f"{self._bucket.shown(self._name(max(found)))} was made by no run", hint="remove it")
        return found

    def _holder(self, found: Mapping[int, Entry]) -> str | None:
        """Return who holds it and what to do about that; None if it can be taken."""
        if not found or self._may_break:
            return None
        entry = found[max(found)]
        if (entry.size, entry.etag) == (len(_RELEASED), _RELEASED_MARK):
            return None
        age = max(0, self._bucket.now() - entry.modified)
        if age > DEAD_S:
            return None
        who = self._who(max(found), entry)
        more = f"if it has died, it can be taken over in {DEAD_S - age + 1} s, or at once with --break-lease"
        return f"{who} has renewed its lease {age} s ago; {more}"

    def _who(self, number: int, entry: Entry) -> str:
        """Return who made a lease, as it says itself."""
        try:
            length = min(entry.size, _MAX_BODY)
            body = json.loads(self._bucket.get_range(self._name(number), 0, length) if length else b"")
            host, run, pid = body["host"], body["run"], body["pid"]
            if isinstance(host, str) and isinstance(run, str) and isinstance(pid, int):
                return f"run {quoted(run[:64])} on {quoted(host[:255])}, process {pid},"
        except (BlockdiffError, OSError, ValueError, LookupError, TypeError, RecursionError):
            pass
        return "a run that does not say where it is"

    def _take(self, found: Mapping[int, Entry]) -> None:
        """Make the next one, and make sure that this store makes none twice."""
        number = max(found, default=0) + 1
        begun = clock()
        if not self._bucket.create_once(self._name(number), self._body):
            raise SetLocked(self._bucket.shown(self._base), hint="it has begun just now; wait until it has ended")
        self._number, self._since, self._older = number, begun, sorted(found)
        if self._bucket.create_once(self._name(number), self._body):
            if max(self._of(self._bucket.list(f"{self._base}.lease-")), default=0) > number:
                self._lost = "other runs have taken it over"  # and have removed it
                self.check()
            what = "it replaces an object where it was asked to make one only if there is none"
            hint = "back up to a folder, and copy from there with blockdiff-copy"
            self._bucket.delete(self._name(number))
            raise StoreRefused(self._bucket.shown(self._base), what, hint=hint)
        self._remove_older()

    def _renew_again(self) -> None:
        """Renew it until this run has ended or lost it."""
        pause = RENEW_S
        while not self._ended.wait(pause) and not self._lost:
            try:
                self.renew()
                pause = RENEW_S
            except BlockdiffError:
                pause = RENEW_S / 6  # while it is ours; `check` says when it is no more

    def _remove_older(self) -> None:
        """Remove older ones, in order; what cannot be removed now is later."""
        with contextlib.suppress(BlockdiffError):
            while self._older:
                self._bucket.delete(self._name(self._older[0]))
                del self._older[0]

    def _release(self) -> None:
        """Give it back; where that fails, others wait until it is old."""
        with self._mutex, contextlib.suppress(BlockdiffError):
            self.check()
            self._bucket.put(self._name(self._number), _RELEASED)  # where others have gone past it, it does not count
