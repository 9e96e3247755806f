"""A conversation with an agent: push it, hear its hello, ask for a volume, take what comes.

Turns whatever goes wrong on the way into an error that says whose fault it is.
Format: blockdiff-protocol(5), "Life of a connection".
"""

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from blockdiff import __version__, errors
from blockdiff.errors import (
    AgentDied,
    BlockdiffError,
    HostRefused,
    HostSilent,
    HostUnreachable,
    NoPython,
    ProtocolBroken,
    VersionsDiffer,
)
from blockdiff.formats import BYTES_OF_DIGEST, FormatError, TornError, digestfile
from blockdiff.printable import printable, quoted
from blockdiff.source import prepared, push
from blockdiff.source.notes import Notes
from blockdiff.transport.base import LOCAL, Shared, Transport
from blockdiff.wire import link, messages

_MAX_NOISE = 256 * 1024  # bytes of banners and shell chatter before the agent's mark
_READ_SIZE = 64 * 1024  # bytes
_DIGESTS_SIZE = 256 * 1024  # bytes of digests in a frame
_LAST_WORDS_S = 2.0  # for the end of a command that does not take what we send
_END_WAIT_S = 10.0  # for an exit status, once everything has been said
_WATCH_S = 0.1  # between two looks at whatever else may end the wait for a snapshot
PROGRESS_S = 1800.0  # for the next step of an agent that lives, be it the next blocks or LVM's work

# what an agent may report, by the name of its class
_REPORTS = {
    name: getattr(errors, name)
    for name in ("NoSuchVolume", "NoPermission", "SnapshotRefused", "SnapshotOverflowed", "ReadFailed", "AgentDied")
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
    same: bool = False  # the path that was asked about as known leads to it
    users: str | None = None  # what may write to it while it is read


def _snapshot(said: dict[str, Any]) -> dict[str, Any]:
    """Check what the agent says of its snapshot.  Raises FormatError."""
    checked = messages.check(said, name=str, size=(int, type(None)), fill=(int, float))
    return {"name": printable(checked["name"], 300), "size": checked["size"], "fill": float(checked["fill"])}


class Session:
    """One agent, from its start to its end.  Use as a context manager; leaving it ends the agent."""

    def __init__(
        self,
        transport: Transport,
        timeout_s: float,
        *,
        progress_s: float = PROGRESS_S,
        snapshots: bool = False,
        pythons: Sequence[str] = push.PYTHONS,
        heard: bool = False,
        note: Callable[[str], None] = lambda line: None,
        log: Callable[[str], None] | None = None,
    ) -> None:
        """Push the agent and hear its hello.

        `timeout_s` is how long it may be silent, `progress_s` how long it may give only signs of life;
        `snapshots`: push what it needs for them, too; `pythons`: those that its command tries; `note`
        takes each of its lines for the log, its host's name before it; `log`, else `note`, those that
        it said again and the last words of a command that died, unless all its words were `heard`.
        Raises HostRefused, HostSilent, NoPython, AgentDied, VersionsDiffer or ProtocolBroken.
        """
        self._transport = transport
        self._timeout_s = timeout_s
        self._progress_s = progress_s
        self._snapshots = snapshots
        self.about = ""  # what its errors are about, where several are at work
        self._pythons, self._heard = pythons, heard
        self._note, self._log = note, log or note
        self._notes = Notes(transport.host)
        self._phase = "while it started"
        self._path = ""
        self._link: link.Link | None = None
        self._feeder: threading.Thread | None = None
        self._feed_failure: Exception | None = None
        self._refusal: BlockdiffError | None = None  # what the transport said of our sending
        self.prepared: prepared.Prepared | None = None  # while a snapshot waits for its moment
        self._first: tuple[int, memoryview] | None = None  # of its frames, where ask() saw it already
        try:
            early = self._push()
            self._link = link.Link(
                self._reader(early), transport.write, timeout_s, self._dead, aside={messages.NOTE: self._notes.is_new}
            )
            self.hello = self._hear_hello()
        except BaseException:
            self.close()
            raise

    @property
    def host(self) -> str:
        """The source host's name, as people wrote it."""
        return self._transport.host

    @property
    def volume(self) -> str:
        """The volume that was asked for, with its host if that is another."""
        path = printable(self._path, 4000)
        return path if self.host == LOCAL else f"{self.host}:{path}"

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
                    raise ProtocolBroken(self.host, "no agent start marker in its output")
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
        if isinstance(why, link.LinkSilent | link.LinkStalled):
            self._transport.close()  # frees whoever is blocked in a write

    def _why_ended(self, error: Exception) -> BlockdiffError:
        """Return what to say when the agent is gone without a word over the wire."""
        if isinstance(error, ConnectionResetError):
            return HostUnreachable(self.host, error.strerror or error)
        if isinstance(error, link.LinkCut):
            return HostUnreachable(self.host, error)
        status = self._transport.wait(_END_WAIT_S)
        lines = self._transport.diagnostics().splitlines()
        last = lines[-1] if lines else ""
        sudo = next((line for line in reversed(lines) if line.startswith("sudo:")), "")
        absent = sudo.endswith("command not found") or push.no_python(status, "\n".join(lines))
        if not self._heard and (len(lines) > 1 or absent):  # else the one is in the error
            for line in lines:
                self._log(f"{self.host}: {line}")
        if absent:
            return NoPython(self.host, ", ".join(self._pythons))
        if sudo:
            hint = "let the user run python with sudo and without a password"
            return HostRefused(self.host, quoted(sudo), hint=hint)
        reason = quoted(last) or str(error)
        return AgentDied(self.host, f"{reason} (exit status {'unknown' if status is None else status})")

    def _failed(self, error: Exception) -> BlockdiffError:
        """Return the error for an end of the link."""
        if self._feed_failure is not None:
            return AgentDied(self.host, self._feed_failure)
        if isinstance(error, link.LinkSilent):
            return HostSilent(self.host, f"{self._timeout_s:g}")
        if isinstance(error, link.LinkStalled):
            hint = "look at that host's disks, and at LVM; --progress-timeout sets how long to wait"
            return HostSilent(f"{self.host} but signs of life, {self._phase},", f"{self._limit_s:g}", hint=hint)
        if isinstance(error, FormatError) and not isinstance(error, TornError):  # a torn frame is an end, too
            return ProtocolBroken(self.host, error)
        if isinstance(error, BlockdiffError):
            return error
        return self._why_ended(error)

    @property
    def _limit_s(self) -> float:
        """Return for how many seconds it may give only signs of life now; to start, it needs nothing slow."""
        return min(self._timeout_s, self._progress_s) if self._phase == "while it started" else self._progress_s

    def receive(self, watch: Callable[[], None] | None = None) -> tuple[int, memoryview]:
        """Return the next (kind, payload) of the agent's; its notes and failures are dealt with here.

        `watch` is called again and again while nothing comes, and may raise.
        Raises what the agent reports, or why nothing more comes.
        """
        assert self._link is not None
        self._link.await_progress(self._limit_s)
        try:
            while True:
                while watch is not None and not self._link.ready(_WATCH_S):
                    watch()
                kind, payload = self._link.receive()
                if kind == messages.NOTE:
                    self._note(self._notes.line(payload))
                elif kind == messages.FAILED:
                    report = messages.decode_talk(payload, error=str, args=list)
                    raise self._reported(report["error"], report["args"])
                else:
                    return kind, payload
        except BlockdiffError as error:
            error.concern(self.about)
            raise
        except Exception as error:
            failed = self._failed(error)
            failed.concern(self.about)
            raise failed from None
        finally:
            self._link.await_progress(None)

    def _reported(self, name: str, args: list[Any]) -> BlockdiffError:
        texts = [quoted(arg) for arg in args]
        if name not in _REPORTS or len(texts) != 2:
            return ProtocolBroken(self.host, f"it reports {quoted(name)}: {quoted(args)}")
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
        host, python, codec = (printable(said[name], 255) for name in ("host", "python", "codec"))
        return Hello(host, python, said["cores"], said["digest"], codec)

    def ask(self, request: dict[str, Any]) -> bool:
        """Ask for a volume; returns whether the agent waits to be told when to make a snapshot."""
        self._phase = "while it opened the volume"
        self._path = request["path"]
        self._send(messages.REQUEST, request)
        kind, payload = self.receive()
        if kind == messages.READY:
            try:
                self.prepared = prepared.decode(payload)
            except FormatError as error:
                raise ProtocolBroken(self.host, error) from None
            return True
        self._first = kind, payload
        return False

    def now(self, places: dict[str, Any] | None) -> None:
        """Have the snapshot made; `places`: where the locked application keeps its data."""
        self._phase = "while it made the snapshot"
        self._send(messages.NOW, {"places": places})

    def taken(self, watch: Callable[[], None]) -> None:
        """Wait until the snapshot stands.  Raises what the agent reports, and what `watch` raises."""
        kind, _ = self.receive(watch)
        if kind != messages.TAKEN:
            raise ProtocolBroken(self.host, f"expected a snapshot, got frame {kind}")
        self._phase = "while it opened the volume"

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
            said = messages.decode_talk(payload, size=int, kind=str, same=bool, users=(str, type(None)))
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
        self._phase = "while it read the volume"
        users = printable(said["users"], 500) if said["users"] else None
        return Opened(said["size"], said["kind"], uuid, snapshot, said.get("holds") is True, said["same"], users)

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
        self._phase = "while it cleaned up"
        try:
            kind, payload = self.receive()
            if kind != messages.LEFT:
                return [f"the agent on {self.host} said something after its end (frame {kind})"]
            remains = messages.decode_talk(payload, remains=(str, type(None)))["remains"]
        except (BlockdiffError, FormatError) as error:
            return [f"backup complete; ending the agent failed: {error}"]
        self._transport.close_write()
        status = self._transport.wait(_END_WAIT_S)
        told = [f"{self.host}: {printable(remains)}"] if remains is not None else []
        if status != 0:
            told.append(f"the agent on {self.host} had done everything, but ended with {status}")
        return told

    def close(self) -> None:
        """End the agent and the connection."""
        if self._link is not None:
            self._link.close()
        self._transport.close()
        self._notes.end(self._log)

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
