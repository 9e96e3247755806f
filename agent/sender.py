"""Send the extents of a scan, at a limited rate, and measure whether compressing them pays.

Compressing costs this host far more than all its other work, and the server has to decompress.
So it pays only if the wire is the slowest part.
"""

import time

from blockdiff.wire import messages

_LOOK = 16 * 1024 * 1024  # bytes between two measurements
_SWALLOWED = 8 * 1024 * 1024  # bytes that pipes, ssh and sockets buffer before the speed of the wire has an effect
_REPORT_S = 5.0  # how long unchanged blocks are joined before the server is sent a sign of progress
_PATIENCE, _MOST_PATIENCE = 8, 64  # measurements until the next attempt without compression


class Sender:
    """Sends metered frames."""

    def __init__(self, link, rate, pays_below):
        """Send at most `rate` bytes per second (0: no limit); on a wire below `pays_below` compressing pays."""
        self._link, self._rate, self._pays_below = link, rate, pays_below
        self._due = time.monotonic()
        self._bytes, self._seconds = -_SWALLOWED, 0.0  # sent, and the time it took, since the last measurement
        self._patience, self._next_patience = 0, _PATIENCE  # measurements
        self.slow = True  # compressing pays

    def send(self, kind, parts, later=False):
        """Send a frame whose payload is the parts joined, when it may go; `later` and errors: Link.send_metered."""
        length = sum(len(part) for part in parts)
        self._wait_for(length)
        began = time.monotonic()
        self._link.send_metered(kind, parts, later and not self._rate)  # what is gathered would come all at once
        self._measure(length, time.monotonic() - began)

    def send_extents(self, results):
        """Send every (Extent, Result) of a scan; unchanged neighbours are joined, and to the extent that follows."""
        first = count = 0  # of the unchanged blocks that are not yet sent
        sent = time.monotonic()
        for extent, result in results:
            unchanged = len(result.runs) == 1 and result.runs[0][0] == messages.SAME and not result.other_digests
            first, fits = first if count else extent.first, count + extent.count <= messages.MAX_COUNT
            now = time.monotonic()
            if unchanged and fits and now - sent < _REPORT_S:
                count += extent.count
                continue
            sent, runs = now, result.runs
            if count and fits and len(runs) < messages.MAX_RUNS and not result.other_digests:
                runs = [(messages.SAME, count), *runs]
            elif count:
                self._send_extent(first, [(messages.SAME, count)], b"", b"")
                first = extent.first
            count = 0
            self._send_extent(first, runs, result.changed_digests, result.other_digests)
            for codec, length, body in result.frames:
                # where the data is in shared memory, the scan may wait for the server to give it back
                later = codec != messages.SHARED
                self.send(messages.DATA, (messages.encode_data_header(codec, length), body), later)
        if count:
            self._send_extent(first, [(messages.SAME, count)], b"", b"")

    def _send_extent(self, *extent):
        self.send(messages.EXTENT, (messages.encode_extent(messages.Extent(*extent)),), later=True)

    def _wait_for(self, length):
        if not self._rate:
            return
        now = time.monotonic()
        self._due = max(self._due, now - 1.0) + length / self._rate
        while now < self._due:
            # in steps: a signal that comes just before a sleep begins does not cut it short
            time.sleep(min(self._due - now, 0.25))
            now = time.monotonic()

    def _measure(self, length, seconds):
        self._bytes += length
        if self._bytes <= 0:
            return
        self._seconds += seconds
        if self._bytes < _LOOK:
            return
        keeps_up = self._bytes >= self._pays_below * self._seconds
        self._bytes, self._seconds = 0, 0.0
        if not self.slow:
            if not keeps_up:
                self.slow, self._patience = True, self._next_patience
                self._next_patience = min(2 * self._next_patience, _MOST_PATIENCE)
            return
        self._patience -= 1
        # compressing itself may be slow: only an attempt without it shows how fast the wire is
        if keeps_up and self._patience < 0 and not self._rate:
            self.slow = False
            self._bytes = -_SWALLOWED
