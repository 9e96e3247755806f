"""A session with an agent: start it, ask for a volume, receive its blocks, end it.

Every failure becomes an error that names the side at fault.
Format: blockdiff-protocol(5), "Life of a connection".
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from blockdiff import errors
from blockdiff.errors import AgentDied, BlockdiffError, HostSilent, ProtocolBroken
from blockdiff.formats import FormatError, TornError
from blockdiff.printable import printable, quoted
from blockdiff.source import opening, push
from blockdiff.source.feeder import DigestSource, Feeder
from blockdiff.source.notes import Notes
from blockdiff.source.opened import Opened, decode_opened
from blockdiff.source.prepared import Prepared, decode_prepared
from blockdiff.transport.base import LOCAL, Shared, Transport
from blockdiff.wire import link, messages, request
from blockdiff.wire.request import Request, SharedMemory

_WATCH_S = 0.1  # between two calls of `watch` during the wait for a snapshot
PROGRESS_S = 1800.0  # for the next step of an agent that sends heartbeats: the next blocks, or LVM's work
_START, _OPEN = "while it started", "while it opened the volume"
_SNAPSHOT, _READ, _END = "while it made the snapshot", "while it read the volume", "while it cleaned up"

# what an agent may report, by the name of its class
_REPORTS = {
    name: getattr(errors, name)
    for name in (
        "NoSuchVolume", "NoPermission", "SnapshotRefused", "SnapshotOverflowed", "ReadFailed", "AgentDied",
        "TargetRefused", "TargetFailed",
    )
}


class Session:
    """One agent, from its start to its end.  Use as a context manager; leaving it ends the agent."""

    _work = "backup"  # what is complete before `finish`

    def __init__(
        self,
        transport: Transport,
        timeout_s: float,
        *,
        progress_s: float = PROGRESS_S,
        snapshots: bool = False,
        restore: bool = False,
        pythons: Sequence[str] = push.PYTHONS,
        stderr_logged: bool = False,
        note: Callable[[str], None] = lambda line: None,
        log: Callable[[str], None] | None = None,
    ) -> None:
        """Push the agent and receive its hello.

        `timeout_s` is how long it may be silent, `progress_s` how long it may send only heartbeats;
        `snapshots`, `restore`: push what it needs for them, too; `pythons`: those that its command tries; `note`
        takes each of its lines for the log, its host's name before it; `log`, else `note`, those that
        it repeated and the last lines of a command that died, unless its stderr is already logged.
        Raises HostRefused, HostSilent, NoPython, AgentDied, VersionsDiffer or ProtocolBroken.
        """
        self._transport = transport
        self._timeout_s, self._progress_s = timeout_s, progress_s
        self.about = ""  # the job that its errors are about, if there are several
        self._note, self._log = note, log or note
        self._notes = Notes(transport.host)
        self._command = opening.AgentCommand(
            transport, timeout_s, pythons=pythons, stderr_logged=stderr_logged, log=self._log
        )
        self._phase = _START
        self._path = ""
        self._link: link.Link | None = None
        self._feeder: Feeder | None = None
        self.from_snapshot = False  # its volume is read from a snapshot
        try:
            read = self._command.start(push.bundle(snapshots, restore))
            self._link = link.Link(
                read, transport.write, timeout_s, self._dead, aside={messages.NOTE: self._notes.is_new}
            )
            self.hello = opening.decode_hello(self.host, *self.receive())
        except BaseException:
            self.close()
            raise

    @property
    def host(self) -> str:
        """The source host's name, as the user gave it."""
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

    @property
    def shared(self) -> Shared | None:
        """Memory that the agent may put blocks into."""
        return self._transport.shared

    @property
    def offer(self) -> SharedMemory | None:
        """That memory, as the request describes it."""
        return None if self.shared is None else SharedMemory(**self.shared.offer)

    # what is received

    def receive(self, watch: Callable[[], None] | None = None) -> tuple[int, memoryview]:
        """Return the agent's next frame that is not a NOTE; `watch` is called while waiting, and may raise.

        Raises the error that the agent reports, or the reason why the connection ended.
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

    def _failed(self, error: Exception) -> BlockdiffError:
        """Return the error for an end of the link."""
        if self._feeder is not None and self._feeder.failure is not None:
            return AgentDied(self.host, self._feeder.failure)
        if isinstance(error, link.LinkSilent):
            return HostSilent(self.host, f"{self._timeout_s:g}")
        if isinstance(error, link.LinkStalled):
            hint = "check that host's disks and LVM; --progress-timeout sets how long to wait"
            return HostSilent(f"{self.host} but heartbeats, {self._phase},", f"{self._limit_s:g}", hint=hint)
        if isinstance(error, FormatError) and not isinstance(error, TornError):  # a torn frame is an end, too
            return ProtocolBroken(self.host, error)
        if isinstance(error, BlockdiffError):
            return error
        return self._command.why_ended(error)

    def _dead(self, why: Exception) -> None:
        if isinstance(why, link.LinkSilent | link.LinkStalled):
            self._transport.close()  # ends a write that is blocked

    @property
    def _limit_s(self) -> float:
        """Seconds for which the agent may send only heartbeats now; its start does nothing slow."""
        return min(self._timeout_s, self._progress_s) if self._phase == _START else self._progress_s

    # the phases, in order

    def ask(self, asked: Request) -> Prepared | Opened:
        """Ask for a volume; returns it prepared for its snapshot, or open.

        Raises ProtocolBroken, and what the agent reports.
        """
        kind, payload = self._answer(asked)
        if kind != messages.READY:
            return self._opened(kind, payload, asked.block_size)
        self.from_snapshot = True
        try:
            return decode_prepared(payload)
        except FormatError as error:
            raise ProtocolBroken(self.host, error) from None

    def clear(self, asked: Request) -> None:
        """Have the snapshots removed that the ended run left.  Raises what the agent reports."""
        self._answer(asked)

    def _answer(self, asked: Request) -> tuple[int, memoryview]:
        self._phase = _OPEN
        self._path = asked.path
        self._send(messages.REQUEST, request.encode(asked))
        return self.receive()

    def now(self, places: dict[str, Any] | None) -> None:
        """Have the snapshot made; `places`: where the locked application keeps its data."""
        self._phase = _SNAPSHOT
        self._send(messages.NOW, messages.encode_talk({"places": places}))

    def taken(self, watch: Callable[[], None]) -> None:
        """Wait until the snapshot is made.  Raises what the agent reports, and what `watch` raises."""
        kind, _ = self.receive(watch)
        if kind != messages.TAKEN:
            raise ProtocolBroken(self.host, f"expected a snapshot, got frame {kind}")
        self._phase = _OPEN

    def opened(self, block_size: int) -> Opened:
        """Return what is open, once the snapshot is made.  Raises ProtocolBroken, and what the agent reports."""
        return self._opened(*self.receive(), block_size)

    def _opened(self, kind: int, payload: memoryview, block_size: int) -> Opened:
        try:
            if kind != messages.OPENED:
                raise FormatError(f"expected an open volume, got frame {kind}")
            found = decode_opened(payload, block_size)
        except FormatError as error:
            raise ProtocolBroken(self.host, error) from None
        self._phase = _READ
        return found

    def feed(self, digests: DigestSource) -> None:
        """Send the parent's digests, past their header, from a thread of their own as the agent asks for more."""
        assert self._link is not None
        self._feeder = Feeder(self._link, digests)

    def fed(self) -> None:
        """Wait until all of them are sent."""
        if self._feeder is not None:
            self._feeder.wait()

    def free(self, places: list[int]) -> None:
        """Let the agent use these places of the shared memory again; any thread may call it."""
        assert self._link is not None
        with contextlib.suppress(link.LinkClosed):  # the receiving side raises why
            self._link.send(messages.FREE, messages.encode_places(places))

    def finish(self, keep: tuple[int, str] | None = None) -> list[str]:
        """Receive the rest after the agent's END; returns warnings about what is left on its host.

        `keep`: the version that was published, and the SHA-256 of its digest file, if its snapshot is to be kept.
        """
        self._phase = _END
        try:
            if keep is not None:
                self._send(messages.KEEP, messages.encode_talk({"version": keep[0], "sha256": keep[1]}))
            kind, payload = self.receive()
            if kind != messages.LEFT:
                return [f"the agent on {self.host} sent something after its end (frame {kind})"]
            remains = messages.decode_talk(payload, remains=(str, type(None)))["remains"]
        except (BlockdiffError, FormatError) as error:
            return [f"{self._work} complete; ending the agent failed: {error}"]
        self._transport.close_write()
        status = self._transport.wait(opening.END_WAIT_S)
        lines = [f"{self.host}: {printable(remains)}"] if remains is not None else []
        if status != 0:
            shown = "unknown" if status is None else status
            lines.append(f"the agent on {self.host} finished, but its exit status is {shown}")
        return lines

    def _send(self, kind: int, payload: bytes) -> None:
        assert self._link is not None
        try:
            self._link.send(kind, payload)
        except link.LinkClosed as error:
            raise self._failed(error) from None

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
