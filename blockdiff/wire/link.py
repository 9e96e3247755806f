"""One end of the wire: frames, credit, heartbeats and silence; the same code on both sides.

Blocks and digests (METERED kinds) are sent on credit only, and credit comes back as the other
side takes frames off its queue.  So a reader thread can always empty the connection into
bounded memory, heartbeats never wait for a slow disk, and a connection without any frame for
`timeout_s` seconds counts as dead, whichever side is slow.  Also runs on the source host: stdlib only,
Python 3.6.
Format: blockdiff-protocol(5), "Flow control", "Heartbeats".
"""

import collections
import contextlib
import threading
import time
from typing import Any, Callable, Deque, Dict, Optional, Sequence, Tuple

from blockdiff.formats import Buffer, FormatError
from blockdiff.wire import frames, messages

WINDOW = 8 * 1024 * 1024  # bytes of metered frames that may be under way in one direction
FRAME_COST = 512  # bytes that a waiting frame counts beside its payload: its overhead in memory
GATHERED = 64 * 1024  # bytes of small frames that are written together: ssh makes a packet of each write
MAX_WAITING = 4 * 1024 * 1024  # bytes of waiting frames that are not metered; more break the protocol
IDLE = frozenset((messages.PING, messages.NOTE))  # kinds that are no progress
_READ_SIZE = 256 * 1024  # bytes


def cost(length: int) -> int:
    """Return what a frame with a payload of length bytes counts, in bytes."""
    return length + FRAME_COST


class LinkClosed(Exception):
    """The other side ended the connection, or this one did."""


class LinkCut(LinkClosed):
    """The connection was cut: neither side ended it."""


def _broke(error: OSError) -> LinkClosed:
    words = error.strerror or str(error)
    if isinstance(error, ConnectionResetError):
        return LinkCut(words)
    return LinkClosed("the connection broke: %s" % words)


class LinkSilent(Exception):
    """Nothing was received for the time given."""


class LinkStalled(Exception):
    """Nothing but heartbeats and notes was received for the time given."""


class Link:
    """Frames over a pair of byte streams.

    `read(size)` returns 1 to size bytes, b"" at the end; `write(data)` takes all of data;
    both may block, and raise OSError when the connection has ended.  `on_dead` is called
    once, from a thread of the link's, with the reason why the link has ended.
    """

    def __init__(
        self,
        read: Callable[[int], bytes],
        write: Callable[[Buffer], None],
        timeout_s: float,
        on_dead: Callable[[Exception], None] = lambda why: None,
        window: Optional[int] = None,
        aside: Optional[Dict[int, Callable[[memoryview], Any]]] = None,
    ) -> None:
        self._read = read
        self._write = write
        self._timeout_s = timeout_s
        self._on_dead = on_dead
        self._window = WINDOW if window is None else window
        self._write_lock = threading.Lock()
        self._gathered = bytearray()  # what is not yet written: frames, the first one perhaps without its beginning
        self._state = threading.Condition()
        self._queue: Deque[Tuple[int, memoryview]] = collections.deque()
        self._queued = 0  # bytes of metered frames in the queue
        self._waiting = 0  # bytes of other frames in the queue
        self._credit = self._window  # bytes that we may still send
        self._owed = 0  # bytes taken off the queue and not yet given back as credit
        self._ended: Optional[Exception] = None
        now = time.monotonic()
        self._last_received = now
        self._sent = now
        self._closing = threading.Event()
        self._closed_here = False
        self.received = 0  # bytes that came over the wire
        # kinds that the reader thread handles at once; a frame is queued only if its handler returns True
        self.aside = {} if aside is None else aside
        self._idle = 0  # bytes of IDLE frames
        self._moved = 0  # bytes of all others
        self._progress = now
        self._awaited: Optional[Tuple[float, float]] = None  # begin and limit of the wait for progress
        self._threads = [
            threading.Thread(target=self._receive_loop, name="link reader", daemon=True),
            threading.Thread(target=self._watch_loop, name="link watch", daemon=True),
            threading.Thread(target=self._beat_loop, name="link beat", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    # receiving

    def _receive_loop(self) -> None:
        decoder = frames.Decoder()
        try:
            while True:
                data = self._read(max(decoder.missing(), _READ_SIZE))
                if not data:
                    decoder.close()
                    raise LinkClosed("the connection ended")
                self._last_received = time.monotonic()
                self.received += len(data)
                decoder.feed(data)
                while True:
                    frame = decoder.next()
                    if frame is None:
                        break
                    if frame[0] in IDLE:
                        self._idle += frames.HEADER_SIZE + len(frame[1])
                    self._arrived(*frame)
                # a part of a frame is progress, for a slow wire; a part of a heartbeat counts only once
                if self.received - self._idle > self._moved:
                    self._moved = self.received - self._idle
                    self._progress = self._last_received
        except OSError as error:
            self._end(_broke(error))
        except Exception as error:  # FormatError, and the errors of a transport's end
            self._end(error)

    def _arrived(self, kind: int, payload: memoryview) -> None:
        if kind == messages.PING:
            return
        if kind in self.aside and not self.aside[kind](payload):
            return
        with self._state:
            if kind == messages.CREDIT:
                self._credit += messages.decode_credit(payload)
                if self._credit > self._window:
                    raise FormatError("more credit than was used")
            else:
                if kind in messages.METERED:
                    self._queued += cost(len(payload))
                    if self._queued > self._window:
                        raise FormatError("more was sent than the credit allows")
                else:
                    self._waiting += cost(len(payload))
                    if self._waiting > MAX_WAITING:
                        raise FormatError("more messages than may wait in the queue")
                self._queue.append((kind, payload))
            self._state.notify_all()

    def await_progress(self, limit_s: Optional[float]) -> None:
        """End the link if only heartbeats and notes come for so many seconds from now on; None: no limit."""
        self._awaited = None if limit_s is None else (time.monotonic(), limit_s)

    def ready(self, wait_s: float) -> bool:
        """Wait at most so many seconds; return whether `receive` would return or raise at once."""
        with self._state:
            return self._state.wait_for(lambda: bool(self._queue) or self._ended is not None, wait_s)

    def receive(self) -> Tuple[int, memoryview]:
        """Return the next (kind, payload), waiting for it.

        Raises LinkClosed, LinkSilent, LinkStalled or FormatError when nothing more will come.
        """
        with self._state:
            while not self._queue:
                if self._ended is not None:
                    raise self._ended
                self._state.wait()
            kind, payload = self._queue.popleft()
            if kind not in messages.METERED:
                self._waiting -= cost(len(payload))
                return kind, payload
            self._queued -= cost(len(payload))
            self._owed += cost(len(payload))
            owed = self._owed if self._owed >= self._window // 4 else 0
            self._owed -= owed
        if owed:
            # frames that have arrived are still valid if this fails; the next receive raises
            with contextlib.suppress(LinkClosed):
                self.send(messages.CREDIT, messages.encode_credit(owed))
        return kind, payload

    # sending

    def send(self, kind: int, payload: Buffer = b"") -> None:
        """Send a frame at once.  Raises LinkClosed."""
        self._put((frames.encode_header(kind, len(payload)), payload))

    def send_metered(self, kind: int, parts: Sequence[Buffer], later: bool = False) -> None:
        """Send a frame of METERED kind whose payload is the parts joined, when there is credit.

        With `later` it may stay here until there are more, or `send` is called, for a second at most.
        Raises LinkClosed, LinkSilent, LinkStalled or FormatError if the link ends before.
        """
        length = sum(len(part) for part in parts)
        header = frames.encode_header(kind, length)
        if self._gathered and self._credit < cost(length):
            self._put(())  # credit comes only for what was written
        with self._state:
            while self._credit < cost(length):
                if self._ended is not None:
                    raise self._ended
                self._state.wait()
            self._credit -= cost(length)
        self._put((header, *parts), later)

    def _put(self, parts: Sequence[Buffer], later: bool = False) -> None:
        with self._write_lock:
            if isinstance(self._ended, LinkCut):
                raise LinkCut(str(self._ended))
            if self._ended is not None:
                raise LinkClosed(str(self._ended))
            for part in parts:
                if len(self._gathered) + len(part) > GATHERED:
                    self._write_gathered()
                if len(part) > GATHERED:
                    self._write_out(part)
                else:
                    self._gathered += part
            if not later:
                self._write_gathered()

    def _write_gathered(self) -> None:
        if self._gathered:
            data, self._gathered = self._gathered, bytearray()
            self._write_out(data)

    def _write_out(self, data: Buffer) -> None:
        try:
            self._write(data)
        except OSError as error:
            raise _broke(error) from None
        self._sent = time.monotonic()

    # ending

    def _watch_loop(self) -> None:
        while not self._closing.wait(min(self._timeout_s / 4, 1.0)):
            now, awaited = time.monotonic(), self._awaited
            if now - self._last_received > self._timeout_s:
                self._end(LinkSilent("nothing was received for %g seconds" % self._timeout_s))
                return
            if awaited is not None and now - max(awaited[0], self._progress) > awaited[1]:
                self._end(LinkStalled("nothing but heartbeats was received for %g seconds" % awaited[1]))
                return

    def _beat_loop(self) -> None:
        # in a thread of its own: a write may block for ever, and the watch must notice that
        while not self._closing.wait(min(self._timeout_s / 4, 1.0)):
            beat_s = min(self._timeout_s / 4, 15.0)
            now = time.monotonic()
            silent = now - self._sent >= beat_s
            # while a write is under way this side is not silent; never wait for its lock here
            if (silent or self._gathered) and self._write_lock.acquire(False):
                try:
                    self._gathered += frames.encode(messages.PING, b"") if silent else b""
                    self._write_gathered()
                except LinkClosed:
                    pass  # the reader thread gets this error, after the frames that still arrive
                finally:
                    self._write_lock.release()

    def _end(self, why: Exception) -> None:
        with self._state:
            if self._ended is not None:
                return
            self._ended = why
            self._state.notify_all()
        self._closing.set()
        if not self._closed_here:
            self._on_dead(why)

    def last_received(self) -> float:
        """Return when something was received last, by the monotonic clock."""
        return self._last_received

    def set_timeout(self, timeout_s: float) -> None:
        """Let the other side be silent for so many seconds from now on."""
        self._timeout_s = timeout_s

    def close(self) -> None:
        """End this side; calls that wait here raise LinkClosed.  The caller closes the streams."""
        self._closed_here = True
        self._end(LinkClosed("this side closed the connection"))

    def __enter__(self) -> "Link":
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self.close()
