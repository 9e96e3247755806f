"""A session with an agent on the host of a restore's target: what is there, its digests, blocks to write, the proof.

Format: blockdiff-protocol(5), "Life of a restore".
"""

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from blockdiff.errors import BlockdiffError, ProtocolBroken
from blockdiff.formats import BYTES_OF_DIGEST, Buffer, FormatError
from blockdiff.printable import printable, quoted
from blockdiff.sets.version import spelt
from blockdiff.source.session import Session
from blockdiff.target.state import DEVICE, FILE, NEW, TargetState
from blockdiff.wire import link, messages, placing
from blockdiff.wire.placing import Place
from blockdiff.wire.request import Request

_WRITE, _PROVE = "while it wrote the target", "while it proved the target"
_MOST_USERS = 25  # of a target


@dataclass(frozen=True)
class Proof:
    """What the agent says at the end of a restore."""

    sha256: str  # of the digest file that the target makes now, in hex
    blocks: int  # that were written
    read: int  # bytes of the target


class TargetSession(Session):
    """One agent that writes a target."""

    _work = "restore"

    def __init__(self, *arguments: Any, bwlimit: int = 0, **options: Any) -> None:
        """`bwlimit`: bytes that are sent in a second at most; 0: no limit.  See Session."""
        super().__init__(*arguments, restore=True, **options)
        assert self._link is not None
        self._link.aside[messages.PLACED] = self._take_placed
        self._bwlimit, self._due = bwlimit, time.monotonic()
        self._abandoned = threading.Event()
        self._sending = threading.Lock()  # a place and its data go together
        self.placed = 0  # bytes that are on the target's disk
        self.sent = 0  # bytes of places and data

    def _take_placed(self, payload: memoryview) -> None:
        self.placed = placing.decode_placed(payload)

    def _reported(self, name: str, args: list[Any]) -> BlockdiffError:
        if name in ("TargetRefused", "TargetFailed", "NoSuchVolume", "NoPermission", "ReadFailed") and args:
            args = [spelt(self.host, str(args[0])), *args[1:]]
        return super()._reported(name, args)

    def _send(self, kind: int, payload: bytes) -> None:
        assert self._link is not None
        try:
            self._link.send(kind, payload)
        except link.LinkClosed:
            self._unexpected()  # it may have said why

    def _wrong(self, why: object) -> BlockdiffError:
        return ProtocolBroken(self.host, why)

    # the phases, in order

    def look(self, asked: Request) -> tuple[TargetState, int | None]:
        """Ask for a target; returns its state, and the bytes that are free there for a new file, if that is known."""
        kind, payload = self._answer(asked)
        self._phase = _WRITE
        try:
            if kind != messages.TARGET:
                raise FormatError(f"expected a target, got frame {kind}")
            return _decode_target(asked.path, payload)
        except FormatError as error:
            raise self._wrong(error) from None

    def go(self) -> None:
        """Let the agent write."""
        self._send(messages.GO, b"")

    def rehearse(self) -> None:
        """Let an agent that was asked for a dry run try what it would do; raises what it reports."""
        self.go()
        kind, _ = self.receive()
        if kind != messages.LEFT:
            raise self._wrong(f"expected the agent's end, got frame {kind}")

    def digests(self, count: int) -> Iterator[bytes]:
        """Yield the digests of the target's first `count` blocks, as they come."""
        left = count * BYTES_OF_DIGEST
        while left:
            kind, payload = self.receive()
            if kind != messages.DIGESTS or not 0 < len(payload) <= min(left, messages.MAX_DIGESTS):
                raise self._wrong(f"expected digests, got frame {kind} of {len(payload)} bytes")
            if len(payload) % BYTES_OF_DIGEST:
                raise self._wrong(f"digests of {len(payload)} bytes")
            left -= len(payload)
            yield bytes(payload)

    def place(self, place: Place, parts: Sequence[Buffer]) -> None:
        """Have blocks written; any thread may call it.  Raises what the agent reports, or why it ended."""
        frames: list[tuple[int, Sequence[Buffer]]] = [(messages.PLACE, (placing.encode_place(place),))]
        for some in _cut(parts):
            header = messages.encode_data_header(messages.RAW, sum(len(part) for part in some))
            frames.append((messages.DATA, (header, *some)))
        with self._sending:
            for kind, payload in frames:
                self._send_metered(kind, payload)

    def _send_metered(self, kind: int, parts: Sequence[Buffer]) -> None:
        assert self._link is not None
        length = sum(len(part) for part in parts)
        self._wait_for(length)
        if self._link.ready(0):  # nothing but a failure is expected now
            self._unexpected()
        self._link.await_progress(self._limit_s)
        try:
            self._link.send_metered(kind, parts)
        except (link.LinkClosed, link.LinkSilent, link.LinkStalled, FormatError):
            self._unexpected()
        finally:
            self._link.await_progress(None)
        self.sent += length

    def _unexpected(self) -> None:
        """Raise why the agent does not take blocks any more."""
        kind, _ = self.receive()
        raise self._wrong(f"expected nothing, got frame {kind}")

    def _wait_for(self, length: int) -> None:
        if self._bwlimit:
            now = time.monotonic()
            self._due = max(self._due, now - 1.0) + length / self._bwlimit
            self._abandoned.wait(max(0.0, self._due - now))

    def end(self, sha256: str) -> Proof:
        """Have the target proved, and finished if its digests are those of a digest file with this SHA-256."""
        self._phase = _PROVE
        self._send(messages.END, messages.encode_talk({"sha256": sha256}))
        kind, payload = self.receive()
        try:
            if kind != messages.END:
                raise FormatError(f"expected the end, got frame {kind}")
            end = messages.decode_talk(payload, sha256=str, blocks=int, read=int)
        except FormatError as error:
            raise self._wrong(error) from None
        return Proof(end["sha256"], end["blocks"], end["read"])

    def abandon(self) -> None:
        """End the connection now; what waits in other threads ends."""
        self._abandoned.set()
        self._transport.close()
        if self._link is not None:
            self._link.close()


def _decode_target(path: str, payload: Buffer) -> tuple[TargetState, int | None]:
    found = messages.decode_talk(payload, kind=str, size=int, content=str, used=list, room=(int, type(None)))
    if found["kind"] not in (NEW, FILE, DEVICE) or not 0 <= found["size"] < 1 << 63:
        raise FormatError(f"a target of {found['size']} bytes and kind {printable(found['kind'], 40)}")
    if found["room"] is not None and found["room"] < 0:
        raise FormatError(f"room of {found['room']} bytes")
    used = tuple(quoted(user) for user in found["used"][:_MOST_USERS])
    content = quoted(found["content"])
    return TargetState(path, found["kind"], found["size"], content, used), found["room"]


def _cut(parts: Sequence[Buffer]) -> Iterator[list[Buffer]]:
    """Yield the parts joined and cut to what a DATA frame takes."""
    some: list[Buffer] = []
    length = 0
    for part in parts:
        view = memoryview(part)
        while len(view):
            piece = view[: messages.MAX_DATA - length]
            some.append(piece)
            length += len(piece)
            view = view[len(piece) :]
            if length == messages.MAX_DATA:
                yield some
                some, length = [], 0
    if some:
        yield some
