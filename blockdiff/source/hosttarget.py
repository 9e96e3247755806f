"""A target on a host, used as a local one is: blocks go to the agent there, which writes them.

Only blocks that the target has not yet are sent.  A restore that ended early is continued by
running it again: what was written has its digest.
"""

from collections.abc import Callable, Iterator, Sequence

from blockdiff.errors import DamagedFile, StoreUnreadable, TargetFailed
from blockdiff.formats import BYTES_OF_DIGEST, Buffer
from blockdiff.printable import Log
from blockdiff.sets.digests import Digests
from blockdiff.sets.version import VersionFiles, spelt
from blockdiff.source.targetsession import Proof, TargetSession
from blockdiff.source.wanted import Wanted
from blockdiff.target.state import NEW, TargetState
from blockdiff.target.writer import PART
from blockdiff.transport.base import Transport
from blockdiff.wire import messages
from blockdiff.wire.placing import Place
from blockdiff.wire.request import Request, RestoreRequest


class HostTarget:
    """A target on a host, from the look at it to the proof; use it as a context manager."""

    def __init__(
        self,
        wanted: Wanted,
        connect: Callable[[], Transport],
        *,
        md5: bool = False,
        warn: Log = lambda line: None,
        note: Log = lambda line: None,
    ) -> None:
        """`md5`: compare by MD5 even where both sides have XXH3-128.

        `warn` and `note` take lines for a person.
        """
        self._wanted, self._connect, self._md5 = wanted, connect, md5
        self._warn, self._note = warn, note
        self._session: TargetSession | None = None
        self._digests: Digests | None = None  # that the target must have
        self._room: int | None = None
        self.path = self.written_path = wanted.path  # with its host, as soon as there is a connection
        self.kind, self.size_before, self.created = NEW, 0, True
        self.proof: Proof | None = None
        self.durable = False  # it is whole, proved and on the disk

    def __enter__(self) -> "HostTarget":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """End the agent; what was written stays as it is."""
        if self._session is not None:
            self._session.close()
        if self._digests is not None:
            self._digests.close()
            self._digests = None

    # before anything is written

    def look(self, files: VersionFiles, size: int, *, dry_run: bool) -> TargetState:
        """Start the agent and return the state of the target, for a version of `size` bytes."""
        wanted, version = self._wanted, files.version
        slow_s = 2 * messages.MAX_DATA / wanted.bwlimit if wanted.bwlimit else 0.0
        self._session = TargetSession(
            self._connect(), wanted.timeout_s, progress_s=wanted.progress_s + slow_s, pythons=wanted.pythons,
            stderr_logged=wanted.stderr_logged, note=self._note, log=self._note, bwlimit=wanted.bwlimit,
        )  # fmt: skip
        self._version, self._size = version, size
        fast = self._session.hello.digest == "xxh128"
        kind, self._digests, self._sha256 = _digests(files, md5=self._md5 or not fast)
        asked = Request(
            path=wanted.path, block_size=version.block_size, digest=kind, timeout_s=wanted.timeout_s,
            jobs=wanted.threads, restore=RestoreRequest(size, dry_run),
        )  # fmt: skip
        seen, self._room = self._session.look(asked)
        self.path = spelt(self._session.host, wanted.path)
        self.kind, self.size_before, self.created = seen.kind, seen.size, seen.kind == NEW
        self.written_path = self.path + PART if self.created else self.path
        return seen._replace(path=self.path)

    def room(self) -> int | None:
        """Return the bytes that are free there for a new file; None if that is not known."""
        return self._room

    def rehearse(self) -> None:
        """Raise TargetRefused where the agent could not write, and change nothing."""
        assert self._session is not None
        self._session.rehearse()

    def open(self, size: int | None) -> "HostTarget":
        """Let the agent write."""
        assert self._session is not None
        self._session.go()
        return self

    def told(self) -> Iterator[tuple[int, bytes, bytes]]:
        """Yield the first of some blocks, the digests that they have and those that they must have, in order."""
        assert self._session is not None and self._digests is not None
        first = 0
        for found in self._session.digests(self._version.count):
            yield first, found, self._digests.take(first, len(found) // BYTES_OF_DIGEST)
            first += len(found) // BYTES_OF_DIGEST

    # what is sent; any thread may call these

    def write(self, offset: int, parts: Sequence[Buffer]) -> None:
        """Have whole blocks written, one after the other, at offset (bytes)."""
        first = offset // self._version.block_size
        most = max(1, min(messages.MAX_DATA // self._version.block_size, messages.MAX_LISTED))
        for start in range(0, len(parts), most):
            self._place(first + start, parts[start : start + most])

    def zero(self, offset: int, length: int) -> None:
        """Have these blocks made zeros."""
        assert self._session is not None
        first = offset // self._version.block_size
        stop = first + -(-length // self._version.block_size)
        for start in range(first, stop, messages.MAX_COUNT):
            self._session.place(Place(start, min(messages.MAX_COUNT, stop - start), b""), ())

    def _place(self, first: int, parts: Sequence[Buffer]) -> None:
        assert self._session is not None and self._digests is not None
        self._session.place(Place(first, len(parts), self._digests.take(first, len(parts))), parts)

    def stop(self) -> None:
        """End the connection now: the run is interrupted."""
        assert self._session is not None
        self._session.abandon()

    # the end

    def finish(self, size: int) -> None:
        """Have the target proved, put on the disk and, if it is new, named.

        Raises TargetFailed if it is not the version, or what the agent reports.
        """
        assert self._session is not None
        self.proof = self._session.end(self._sha256)
        if self.proof.sha256 != self._sha256:
            why = f"its blocks do not have the digests of version {self._version.number}"
            raise TargetFailed(self.written_path, why, hint="something else wrote to it; run again")
        self.durable = True
        for line in self._session.finish():
            self._warn(line)

    @property
    def sent(self) -> int:
        """Bytes of blocks, with what names them, that were sent."""
        return 0 if self._session is None else self._session.sent

    @property
    def placed(self) -> int:
        """Bytes of those that were sent that are on the target's disk, as far as is known."""
        return 0 if self._session is None else self._session.placed

    def left(self) -> str:
        """Return what a failed run leaves and the next step, for a person."""
        what = "is left" if self.created else "is partly written"
        return f"{self.written_path} {what}; running again sends only the blocks that it does not have yet"


def _digests(files: VersionFiles, *, md5: bool) -> tuple[str, Digests, str]:
    """Return which digests of a version are compared, the digests, and the SHA-256 of their file in hex."""
    version = files.version
    listed = None if md5 or version.manifest is None else version.manifest.files.get(".xxh128")
    if listed is not None:
        try:
            found = Digests(files.digests.removesuffix(".md5") + ".xxh128", version.count, files.open)
        except (DamagedFile, StoreUnreadable):
            found = None
        if found is not None:
            if found.seal() == listed.sha256:
                return "xxh128", found, listed.sha256
            found.close()
    found = Digests(files.digests, version.count, files.open)
    return "md5", found, found.seal()
