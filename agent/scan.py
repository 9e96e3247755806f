"""The work: read, digest, compare and compress the blocks of a volume, in parallel and in order.

Each extent (a run of neighbouring blocks) is one task with a buffer of its own; results
are sent in block order.  What is in flight is bounded by bytes, so that memory does not
grow with the volume.  Holes are not read, and a block's digest decides what is sent.
"""

import collections
import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from blockdiff.formats import BYTES_OF_DIGEST, digestfile, messages

from . import native

EXTENT_SIZE = 1024 * 1024  # bytes read at once, unless one block is larger
IN_FLIGHT = 24 * 1024 * 1024  # bytes of buffers at most
BLOCK_COST = 512  # bytes that are spent on a block beside its own, which counts where blocks are tiny
HOLE_BLOCKS = messages.MAX_RUNS  # blocks of a hole in one extent: each may become a run

Extent = collections.namedtuple("Extent", "first count offset length hole")


def blocks_read(block_size):
    """Return how many blocks are read at once."""
    return max(1, min(EXTENT_SIZE // block_size, messages.MAX_RUNS))


def plan(volume, block_size):
    """Yield the extents of a volume, in block order; holes are those of whole blocks."""
    per_read = blocks_read(block_size)
    total = digestfile.blocks_of(volume.size, block_size)
    index = 0
    for start, end, is_hole in volume.regions():
        if is_hole:
            # only blocks that lie in the hole whole; the volume's last one may be short
            last = total if end == volume.size else end // block_size
            first = max(index, -(-start // block_size))
        else:
            last = min(total, -(-end // block_size))
            first = index
        if is_hole and first < last:
            for extent in _cut(volume, block_size, index, first, per_read, False):
                yield extent
            for extent in _cut(volume, block_size, first, last, HOLE_BLOCKS, True):
                yield extent
            index = last
        elif not is_hole and index < last:
            for extent in _cut(volume, block_size, index, last, per_read, False):
                yield extent
            index = last
    for extent in _cut(volume, block_size, index, total, per_read, False):
        yield extent


def _cut(volume, block_size, first, last, most, hole):
    for index in range(first, last, most):
        count = min(most, last - index)
        offset = index * block_size
        yield Extent(index, count, offset, min(count * block_size, volume.size - offset), hole)


class Result:
    """What became of an extent: what is sent of it, and the digests of its blocks."""

    __slots__ = ("buffer", "digests", "frames", "length", "others", "runs", "told")

    def __init__(self, runs, digests, told=b"", others=b"", frames=(), buffer=None):
        self.runs = runs
        self.digests = digests  # of all blocks
        self.told = told  # digests of the changed blocks
        self.others = others  # of all blocks, of the other kind
        self.frames = frames  # (codec, length, body) of each DATA frame
        self.buffer = buffer  # that the frames' bodies lie in
        self.length = 0  # bytes read


class Scan:
    """One pass over a volume.

    `old` gives the parent's digests: old(count) returns those of the next count blocks,
    fewer where the parent had fewer; None for a full backup.
    """

    def __init__(self, volume, block_size, digester, other, old, compress, jobs):
        self._volume = volume
        self._block_size = block_size
        self._digester = digester
        self._other = other
        self._old = old
        self._compress = compress
        self._is_zero = native.ZeroTest(min(block_size, max(volume.size, 1)))
        self._zero_digests = {}  # by length of the block
        largest = blocks_read(block_size) * block_size
        self._slots = max(1, min(2 * jobs, IN_FLIGHT // max(largest, blocks_read(block_size) * BLOCK_COST)))
        self._jobs = min(jobs, self._slots)
        self._largest = min(largest, max(volume.size, 1))
        self._free = []  # buffers
        self._thread = threading.local()
        self.total = digestfile.blocks_of(volume.size, block_size)
        self.changed = 0  # blocks, zero ones counted
        self.zero = 0  # changed blocks that are zero
        self.read = 0  # bytes
        self._hash = hashlib.sha256(digestfile.encode_header(block_size))
        self._other_hash = hashlib.sha256(digestfile.encode_header(block_size))

    def results(self):
        """Yield the Result of each extent with its first block, in order; each is whole when the next is asked."""
        pool = ThreadPoolExecutor(self._jobs)
        pending = collections.deque()
        try:
            for extent in plan(self._volume, self._block_size):
                old = None if self._old is None else self._old(extent.count)
                while len(pending) >= self._slots:
                    for item in self._finish(*pending.popleft()):
                        yield item
                if extent.hole:
                    pending.append((extent, pool.submit(self._hole, extent, old)))
                else:
                    buffer = self._free.pop() if self._free else native.Buffer(self._largest)
                    pending.append((extent, pool.submit(self._data, extent, old, buffer)))
            while pending:
                for item in self._finish(*pending.popleft()):
                    yield item
        finally:
            pool.shutdown()

    def _finish(self, extent, future):
        result = future.result()
        self._hash.update(result.digests)
        self._other_hash.update(result.others)
        self.read += result.length
        for what, count in result.runs:
            self.changed += count if what != messages.SAME else 0
            self.zero += count if what == messages.ZERO else 0
        yield extent, result
        if result.buffer is not None:
            self._free.append(result.buffer)

    def digest_hashes(self):
        """Return {kind: SHA-256 in hex of the digest file} for each kind that was computed of every block."""
        found = {self._digester.name: self._hash.hexdigest()}
        if self._other is not None:
            found[self._other.name] = self._other_hash.hexdigest()
        return found

    def _zero_digest(self, digester, length):
        key = (digester.name, length)
        if key not in self._zero_digests:
            self._zero_digests[key] = digester.digest(bytes(length))
        return self._zero_digests[key]

    def _zero_digests_of(self, digester, extent):
        tail = extent.length - (extent.count - 1) * self._block_size
        whole = self._zero_digest(digester, self._block_size) if extent.count > 1 else b""
        return whole * (extent.count - 1) + self._zero_digest(digester, tail)

    def _hole(self, extent, old):
        digests = self._zero_digests_of(self._digester, extent)
        others = b"" if self._other is None else self._zero_digests_of(self._other, extent)
        runs = _Runs()
        if old == digests:
            runs.add(messages.SAME, extent.count)
        elif not old:
            runs.add(messages.ZERO, extent.count)
        else:
            for place in range(0, len(digests), BYTES_OF_DIGEST):
                same = digests[place : place + BYTES_OF_DIGEST] == old[place : place + BYTES_OF_DIGEST]
                runs.add(messages.SAME if same else messages.ZERO, 1)
        return Result(runs.list, digests, others=others)

    def _data(self, extent, old, buffer):
        self._volume.read_into(buffer.view[: extent.length], extent.offset)
        digests = self._digester.digests(buffer, extent.length, self._block_size)
        others = b""
        if self._other is not None:
            others = self._other.digests(buffer, extent.length, self._block_size)
        runs, told, places = _Runs(), [], []
        if digests == old:
            runs.add(messages.SAME, extent.count)
        else:
            old = old or b""
            for index in range(extent.count):
                place = index * BYTES_OF_DIGEST
                digest = digests[place : place + BYTES_OF_DIGEST]
                if digest == old[place : place + BYTES_OF_DIGEST]:
                    runs.add(messages.SAME, 1)
                    continue
                start = index * self._block_size
                end = min(start + self._block_size, extent.length)
                # never trust the digest alone: what is called zero is zero
                if digest == self._zero_digest(self._digester, end - start) and self._is_zero(buffer, start, end):
                    runs.add(messages.ZERO, 1)
                    continue
                runs.add(messages.CHANGED, 1)
                told.append(digest)
                if places and places[-1][1] == start:
                    places[-1][1] = end
                else:
                    places.append([start, end])
        result = Result(runs.list, digests, b"".join(told), others, self._pieces(buffer, places), buffer)
        result.length = extent.length
        return result

    def _pieces(self, buffer, places):
        """Return (codec, length, body) for DATA frames that carry these places of the buffer, in order."""
        frames = []
        held, held_length = [], 0
        for start, end in places:
            while start < end:
                stop = min(end, start + messages.MAX_DATA - held_length)
                held.append(buffer.view[start:stop])
                held_length += stop - start
                start = stop
                if held_length == messages.MAX_DATA:
                    frames.append(self._piece(held, held_length))
                    held, held_length = [], 0
        if held:
            frames.append(self._piece(held, held_length))
        return frames

    def _piece(self, held, length):
        body = held[0] if len(held) == 1 else bytearray().join(held)
        if self._compress:
            compressor = getattr(self._thread, "compressor", None)
            if compressor is None:
                compressor = self._thread.compressor = native.compressor()
            packed = compressor.compress(body)
            if packed is not None and len(packed) < length:
                return compressor.code, length, packed
        return messages.RAW, length, body


class _Runs:
    """Runs of blocks with the same fate, joined as they come."""

    def __init__(self):
        self.list = []

    def add(self, what, count):
        if self.list and self.list[-1][0] == what:
            self.list[-1] = (what, self.list[-1][1] + count)
        else:
            self.list.append((what, count))


class Pace:
    """Keep to a number of bytes a second."""

    def __init__(self, rate):
        self._rate = rate  # bytes per second; 0: as fast as it goes
        self._due = time.monotonic()

    def spend(self, length):
        """Wait until length more bytes may have been sent."""
        if not self._rate:
            return
        now = time.monotonic()
        self._due = max(self._due, now - 1.0) + length / self._rate
        while now < self._due:
            # in steps: a signal that comes just before a sleep begins does not cut it short
            time.sleep(min(self._due - now, 0.25))
            now = time.monotonic()
