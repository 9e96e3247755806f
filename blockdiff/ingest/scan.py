"""One scan: an agent is started, asked for a volume, and its blocks go to a Writer.

What a backup and a dump share.  The order: `ask`; the snapshots of all scans at one moment, by
source.snapshots; `opened`; `read`; and `finish`, once what was read is published or complete.
"""

import uuid
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from blockdiff import codecs
from blockdiff.ingest.comparison import Comparison, HintWrong
from blockdiff.printable import Log
from blockdiff.source import leftovers
from blockdiff.source.opened import Opened
from blockdiff.source.prepared import Prepared
from blockdiff.source.session import Session
from blockdiff.source.wanted import Wanted, request
from blockdiff.transport.base import Transport
from blockdiff.wire.request import HintRequest, Request

if TYPE_CHECKING:
    from blockdiff.ingest import receiver


class Scan:
    """One volume under way.  Use as a context manager.

    Leaving it ends the agent; after a lost connection it also looks once whether the snapshot of
    this run is still there, and removes it.
    """

    session: Session

    def __init__(
        self, wanted: Wanted, connect: Callable[[], Transport], set_tag: str, *, about: str = "", warn: Log, note: Log
    ) -> None:
        """`set_tag` is put on the snapshot; `about`: what its errors are about, where several are at work."""
        self._wanted, self._connect, self._set_tag, self._about = wanted, connect, set_tag, about
        self._warn, self._note = warn, note
        self._request: Request | None = None  # as long as a snapshot may have to be looked for
        self._hints = False  # they were asked for
        self._wrong: int | None = None  # the offset at which one was

    def __enter__(self) -> "Scan":
        self.session = self._wanted.session(self._connect(), self._log, self._note)
        self.session.about = self._about
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.session.close()
        self.failed(error)

    def _log(self, line: str) -> None:
        """Take a line of the agent's; what its sweep could not settle is for a person."""
        (self._warn if leftovers.concerns(line) else self._note)(line)

    def ask(
        self, comparison: Comparison, known: str | None = None, hints: HintRequest | None = None
    ) -> Prepared | Opened:
        """Ask for the volume; returns what waits for its snapshot, or what is open.

        `known`: path by which the set knows its volume.
        """
        self._hints = hints is not None
        old = comparison.old
        asked = request(
            self._wanted,
            self._set_tag,
            uuid.uuid4().hex,
            known=known,
            block_size=comparison.block_size,
            digest=comparison.compared,
            others=comparison.other_digests,
            old=None if old is None else old.count,
            shared=self.session.offer,
            hints=hints,
        )
        found = self.session.ask(asked)
        self._request = asked if isinstance(found, Prepared) else None
        return found

    def opened(self, found: Prepared | Opened, block_size: int) -> Opened:
        """Return what is open, of which `ask` returned `found`, after the snapshots."""
        return found if isinstance(found, Opened) else self.session.opened(block_size)

    def read(
        self,
        comparison: Comparison,
        writer: "receiver.Writer",
        codec: codecs.Codec,
        size: int,
        cores: int,
        progress: Callable[[int], object] = lambda length: None,
    ) -> "receiver.Totals":
        """Take what the agent reads of `size` bytes, and write it; `cores`: threads, if none are asked for.

        Raises HintWrong, at most once, if it is to be called again, with a new writer.
        """
        if comparison.old is not None:
            self.session.feed(comparison.old)
        from blockdiff.ingest import receiver  # loaded while the agent reads

        work = receiver.Receiver(
            self.session, writer, codec, size, comparison, progress, hints=self._hints, wrong=self._wrong
        )
        try:
            return work.run(max(1, self._wanted.threads or cores))
        except HintWrong as error:
            self._wrong = error.offset
            if comparison.old is not None:
                self.session.fed()  # the agent has received all, and waits for them once more
                comparison.old.rewind()
            raise

    def finish(self, keep: tuple[int, str] | None = None) -> None:
        """Receive the rest; warn of what a person should know of how the agent left its host; `keep`: see Session."""
        for line in self.session.finish(keep):
            self._warn(line)

    def failed(self, error: BaseException | None) -> None:
        """After a lost connection remove the snapshot of this run, if it is still there; once."""
        asked, self._request = self._request, None
        if asked is not None and isinstance(error, leftovers.LOST):
            self.session.close()
            leftovers.clear(self._connect, asked, self._note)
