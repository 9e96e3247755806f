"""A conversation with an agent: push it, hear its hello, ask for a volume, take what comes.

Turns whatever goes wrong on the way into an error that says whose fault it is.
Format: blockdiff-protocol(5), "Life of a connection".
"""

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from blockdiff import __version__, errors, link, push
from blockdiff.errors import (
    AgentDied,
    BlockdiffError,
    HostRefused,
    HostSilent,
    HostUnreachable,
    Interrupted,
    NoPython,
    ProtocolBroken,
    VersionsDiffer,
)
from blockdiff.formats import BYTES_OF_DIGEST, FormatError, TornError, digestfile, messages
from blockdiff.transport.base import Shared, Transport

_MAX_NOISE = 256 * 1024  # bytes of banners and shell chatter before the agent's mark
_MAX_NOTES = 5000  # lines for the log in one session
_READ_SIZE = 64 * 1024  # bytes
_DIGESTS_SIZE = 256 * 1024  # bytes of digests in a frame
_LAST_WORDS_S = 2.0  # for the end of a command that does not take what we send
_END_WAIT_S = 10.0  # for an exit status, once everything has been said

# what an agent may report, by the name of its class
_REPORTS = {
    name: getattr(errors, name)
    for name in ("NoSuchVolume", "SnapshotRefused", "SnapshotOverflowed", "ReadFailed", "AgentDied")
}


class DigestSource(Protocol):
    """Where the parent's digests are read from."""

    def read(self, size: int, /) -> bytes:
        """Return up to size bytes, b"" at the end."""


@dataclass(frozen=True)
class Hello:
    """What the agent says of itself."""

    host: str
    python: str
    cores: int
    digest: str  # the fastest kind it has: "xxh128" or "md5"
    codec: str  # what it compresses the wire with


@dataclass(frozen=True)
class Opened:
    """A volume that stands open at the agent's."""

    size: int  # bytes
    kind: str  # "file", "block", "lvm-thick" or "lvm-thin"
    lv_uuid: str | None = None
    snapshot: dict[str, Any] | None = None  # name, size in bytes or None, fill in percent
    holds: bool = False  # the application that was locked has all its data on it


def _snapshot(said: dict[str, Any]) -> dict[str, Any]:
    """Check what the agent says of its snapshot.  Raises FormatError."""
    checked = messages.check(said, name=str, size=(int, type(None)), fill=(int, float))
    return {"name": printable(checked["name"], 300), "size": checked["size"], "fill": float(checked["fill"])}


def printable(text: object, limit: int = 500) -> str:
    """Return text from the other side, safe for a terminal and a log line."""
    return "".join(c if c.isprintable() else "?" for c in str(text)[:limit])


class Session:
    """One agent, from its start to its end.  Use as a context manager; leaving it ends the agent."""

    def __init__(
        self,
        transport: Transport,
        timeout_s: float,
        *,
        snapshots: bool = False,
        note: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Push the agent and hear its hello.

        `snapshots`: push what it needs for them, too; `note` takes each line that it has for the log.
        Raises HostRefused, HostSilent, NoPython, AgentDied, VersionsDiffer or ProtocolBroken.
        """
        self._transport = transport
        self._timeout_s = timeout_s
        self._snapshots = snapshots
        self._note = note
        self._notes = 0
        self._link: link.Link | None = None
        self._feeder: threading.Thread | None = None
        self._feed_failure: Exception | None = None
        self._refusal: BlockdiffError | None = None  # what the transport said of our sending
        self._first: tuple[int, memoryview] | None = None  # of its frames, where ask() saw it already
        try:
            early = self._push()
            self._link = link.Link(self._reader(early), transport.write, timeout_s, self._dead)
            self.hello = self._hear_hello()
        except BaseException:
            self.close()
            raise

    @property
    def host(self) -> str:
        """The source host's name, as people wrote it."""
        return self._transport.host

    @property
    def wire(self) -> int:
        """Bytes that have come over the wire."""
        return self._link.received if self._link else 0

    def _push(self) -> bytes:
        """Send the bundle and wait for the agent's mark; returns what came after it."""
        timer = threading.Timer(self._timeout_s, self._transport.close)
        timer.daemon = True
        began = time.monotonic()
        timer.start()
        seen = b""
        try:
            # what refuses us may do so before it has read all of this: then the reason is on its side
            sender = threading.Thread(target=self._send_bundle, daemon=True)
            sender.start()
            while messages.SYNC_MARK not in seen:
                if len(seen) > _MAX_NOISE:
                    raise ProtocolBroken(self.host, "it talks, but not as our agent")
                data = self._transport.read(_READ_SIZE)
                if not data:
                    raise OSError("the command ended")
                seen += data
        except OSError as error:
            if time.monotonic() - began >= self._timeout_s:
                raise HostSilent(self.host, f"{self._timeout_s:g}") from None
            raise self._refusal or self._why_ended(error) from None
        finally:
            timer.cancel()
        return seen.partition(messages.SYNC_MARK)[2]

    def _send_bundle(self) -> None:
        try:
            self._transport.write(push.bundle(self._snapshots))
        except (OSError, BlockdiffError) as error:
            if isinstance(error, BlockdiffError):
                self._refusal = error  # the reader may not come to see it itself
            # what stopped it may have been said on its side: leave the reader a moment to see that
            self._transport.wait(_LAST_WORDS_S)
            self._transport.close()

    def _reader(self, early: bytes) -> Callable[[int], bytes]:
        held = [early] if early else []

        def read(size: int) -> bytes:
            return held.pop() if held else self._transport.read(size)

        return read

    def _dead(self, why: Exception) -> None:
        if isinstance(why, link.LinkSilent):
            self._transport.close()  # frees whoever is blocked in a write

    def _why_ended(self, error: Exception) -> BlockdiffError:
        """Return what to say when the agent is gone without a word over the wire."""
        if isinstance(error, ConnectionResetError):
            return HostUnreachable(self.host, error.strerror or error)
        if isinstance(error, link.LinkCut):
            return HostUnreachable(self.host, error)
        status = self._transport.wait(_END_WAIT_S)
        last = self._transport.diagnostics()
        if push.no_python(status, last):
            return NoPython(self.host, ", ".join(push.PYTHONS), hint=f"it said: {last}" if last else "")
        if last.startswith("sudo:"):
            return HostRefused(self.host, last, hint="let the user run python with sudo and without a password")
        reason = last or str(error)
        return AgentDied(self.host, f"{reason} (exit status {'unknown' if status is None else status})")

    def _failed(self, error: Exception) -> BlockdiffError:
        """Return the error for an end of the link."""
        if self._feed_failure is not None:
            return AgentDied(self.host, self._feed_failure)
        if isinstance(error, link.LinkSilent):
            return HostSilent(self.host, f"{self._timeout_s:g}")
        if isinstance(error, FormatError) and not isinstance(error, TornError):  # a torn frame is an end, too
            return ProtocolBroken(self.host, error)
        if isinstance(error, BlockdiffError):
            return error
        return self._why_ended(error)

    def receive(self) -> tuple[int, memoryview]:
        """Return the next (kind, payload) of the agent's; its notes and failures are dealt with here.

        Raises what the agent reports, or why nothing more comes.
        """
        assert self._link is not None
        try:
            while True:
                kind, payload = self._link.receive()
                if kind == messages.NOTE:
                    self._notes += 1
                    if self._notes > _MAX_NOTES:
                        raise FormatError("more notes than anybody reads")
                    self._note(printable(messages.decode_talk(payload, text=str)["text"], 4000))
                elif kind == messages.FAILED:
                    report = messages.decode_talk(payload, error=str, args=list)
                    raise self._reported(report["error"], report["args"])
                else:
                    return kind, payload
        except BlockdiffError:
            raise
        except Exception as error:
            raise self._failed(error) from None

    def _reported(self, name: str, args: list[Any]) -> BlockdiffError:
        texts = [printable(arg) for arg in args]
        if name not in _REPORTS or len(texts) != 2:
            return ProtocolBroken(self.host, f"it reports {printable(name)}: {printable(args)}")
        if name == "AgentDied":  # it knows its host by another name than we do
            texts[0] = self.host
        found: BlockdiffError = _REPORTS[name](*texts)
        return found

    def _hear_hello(self) -> Hello:
        kind, payload = self.receive()
        try:
            if kind != messages.HELLO:
                raise FormatError(f"expected a hello, got frame {kind}")
            said = messages.decode_talk(
                payload, protocol=int, program=str, python=str, host=str, cores=int, digest=str, codec=str
            )
        except FormatError as error:
            raise ProtocolBroken(self.host, error) from None
        if (said["protocol"], said["program"]) != (messages.PROTOCOL, __version__):
            theirs = f"protocol {said['protocol']} of {printable(said['program'], 40)}"
            raise VersionsDiffer(self.host, theirs, f"protocol {messages.PROTOCOL} of {__version__}")
        if said["digest"] not in ("md5", "xxh128"):
            raise ProtocolBroken(self.host, f"unknown digest {printable(said['digest'], 40)}")
        return Hello(
            printable(said["host"], 255),
            printable(said["python"], 40),
            said["cores"],
            said["digest"],
            printable(said["codec"], 40),
        )

    def ask(self, request: dict[str, Any]) -> bool:
        """Ask for a volume; returns whether the agent waits to be told when to make a snapshot."""
        self._send(messages.REQUEST, request)
        kind, payload = self.receive()
        if kind == messages.READY:
            return True
        self._first = kind, payload
        return False

    def now(self, places: dict[str, Any] | None) -> None:
        """Have the snapshot made; `places`: where the locked application keeps its data."""
        self._send(messages.NOW, {"places": places})

    def taken(self) -> None:
        """Wait until the snapshot stands.  Raises what the agent reports."""
        kind, _ = self.receive()
        if kind != messages.TAKEN:
            raise ProtocolBroken(self.host, f"expected a snapshot, got frame {kind}")

    def _send(self, kind: int, value: dict[str, Any]) -> None:
        assert self._link is not None
        try:
            self._link.send(kind, messages.encode_talk(value))
        except link.LinkClosed as error:
            raise self._failed(error) from None

    @property
    def shared(self) -> Shared | None:
        """Memory that the agent may put blocks into."""
        return self._transport.shared

    @property
    def offer(self) -> dict[str, int] | None:
        """How to tell the agent of that memory."""
        return self._transport.shared.offer if self._transport.shared is not None else None

    def seen(self, places: list[int]) -> None:
        """Let the agent use these places of the shared memory again; any thread may say so."""
        assert self._link is not None
        with contextlib.suppress(link.LinkClosed):  # the receiving side tells why
            self._link.send(messages.FREE, messages.encode_places(places))

    def opened(self, block_size: int) -> Opened:
        """Return what the agent tells of the volume that now stands open.

        Raises ProtocolBroken, and what the agent reports.
        """
        kind, payload = self._first or self.receive()
        try:
            if kind != messages.OPENED:
                raise FormatError(f"expected an open volume, got frame {kind}")
            said = messages.decode_talk(payload, size=int, kind=str)
            if not 0 <= said["size"] < 1 << 63 or said["kind"] not in ("file", "block", "lvm-thick", "lvm-thin"):
                raise FormatError(f"a volume of {said['size']} bytes and kind {printable(said['kind'], 40)}")
            if digestfile.blocks_of(said["size"], block_size) > 1 << 56:
                raise FormatError("too many blocks")
            uuid, snapshot = None, None
            if said["kind"].startswith("lvm"):
                messages.decode_talk(payload, lv_uuid=str, snapshot=dict, holds=(bool, type(None)))
                uuid = printable(said["lv_uuid"], 64)
                snapshot = _snapshot(said["snapshot"])
        except FormatError as error:
            raise ProtocolBroken(self.host, error) from None
        return Opened(said["size"], said["kind"], uuid, snapshot, said.get("holds") is True)

    def feed(self, old: DigestSource) -> None:
        """Let the agent have the parent's digests as it asks for more; by a thread of its own.

        `old` is a digest file of the parent's, past its header.
        """
        self._feeder = threading.Thread(target=self._feed, args=(old,), daemon=True)
        self._feeder.start()

    def _feed(self, old: DigestSource) -> None:
        assert self._link is not None
        try:
            held = b""
            while data := old.read(_DIGESTS_SIZE):
                held += data
                whole = len(held) // BYTES_OF_DIGEST * BYTES_OF_DIGEST
                if whole:
                    self._link.send_metered(messages.DIGESTS, (held[:whole],))
                    held = held[whole:]
        except (link.LinkClosed, link.LinkSilent, FormatError):
            pass  # the receiving side tells why
        except Exception as error:
            self._feed_failure = error
            self._link.close()

    def finish(self) -> list[str]:
        """Hear out the agent after its END; returns what a person should know of how it left its host."""
        try:
            kind, payload = self.receive()
            if kind != messages.LEFT:
                return [f"the agent on {self.host} said something after its end (frame {kind})"]
            remains = messages.decode_talk(payload, remains=(str, type(None)))["remains"]
        except Interrupted:
            raise
        except (BlockdiffError, FormatError) as error:
            return [f"everything was read, but then: {error}"]
        self._transport.close_write()
        status = self._transport.wait(_END_WAIT_S)
        told = [printable(remains)] if remains is not None else []
        if status != 0:
            told.append(f"the agent on {self.host} had done everything, but ended with {status}")
        return told

    def close(self) -> None:
        """End the agent and the connection."""
        if self._link is not None:
            self._link.close()
        self._transport.close()

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
