"""Read, digest, compare and compress the blocks of a volume, in parallel; results come in order.

Each extent is one task with a buffer of its own.  The bytes of all buffers are limited, so that
memory does not grow with the volume.  Holes are not read, nor what a hint leaves out; the digest of
a block decides whether it is sent.
"""

import collections
import hashlib
import os
import threading

from blockdiff.formats import BYTES_OF_DIGEST, digestfile
from blockdiff.wire import messages

from . import extents, native

IN_FLIGHT = 24 * 1024 * 1024  # bytes of buffers at most
BLOCK_COST = 512  # bytes of memory for a block beside its data, important for tiny blocks


class Result:
    """The result of an extent: the digests of its blocks, and what is sent of it."""

    __slots__ = ("buffer", "changed_digests", "digests", "frames", "length", "other_digests", "runs")

    def __init__(self, runs, digests, changed_digests=b"", other_digests=b""):
        self.runs = runs
        self.digests = digests  # of all blocks
        self.changed_digests = changed_digests
        self.other_digests = other_digests  # of all blocks, of the other kind
        self.frames = []  # (codec, length, body) of each DATA frame
        self.buffer = None  # of the frames' bodies; free once they are sent
        self.length = 0  # bytes read


class HintWrong(Exception):
    """A block is not what a hint has it to be; `args` has its offset."""


class Scan:
    """One pass over a volume."""

    def __init__(self, volume, asked, old, pays, pool, stretches=None):
        """Scan a volume as the Request asks.

        `old(count)` returns the parent's digests of the next count blocks, fewer if the parent
        had fewer; None for a full backup.  `pays()` returns whether compressing pays now, if it is
        allowed; `pool` has buffers of `buffer_size`; `stretches`: what is read where there is a hint,
        see snapshots/selection.py.
        """
        self._volume = volume
        self._block_size = block_size = asked.block_size
        self._digester = native.digester(asked.digest)
        self._other = native.digester("xxh128" if asked.digest == "md5" else "md5") if asked.others else None
        self._old = old
        self._compress = pays if asked.compress else lambda: False
        self._is_zero = native.ZeroTest(min(block_size, max(volume.size, 1)))
        self._zero_digests = {}  # by length of the block
        blocks = extents.blocks_read(block_size)
        most = IN_FLIGHT // (blocks * max(block_size, BLOCK_COST))
        jobs = _threads(asked)
        self._slots = max(1, min(2 * jobs if jobs > 1 else 1, most))
        self._jobs = min(jobs, self._slots)
        self._pool = pool
        self._stretches = stretches
        self._thread = threading.local()
        self.total = digestfile.blocks_of(volume.size, block_size)
        self.changed = 0  # blocks, zero ones counted
        self.zero = 0  # changed blocks that are zero
        self.read = 0  # bytes
        self.hinted = self.audited = 0  # blocks that were read for a hint, and for its audit
        self._hash = hashlib.sha256(digestfile.encode_header(block_size))
        self._other_hash = hashlib.sha256(digestfile.encode_header(block_size))

    def results(self):
        """Yield (Extent, Result) in block order, or raise HintWrong; a Result's buffer is used again later."""
        executor = _executor(self._jobs)
        pending = collections.deque()
        try:
            for extent, fetched in extents.ahead(self._volume, self._extents()):
                old = None if self._old is None else self._old(extent.count)
                # never wait for a buffer while something can be sent: the server may wait for that
                while len(pending) >= self._slots or (pending and not self._pool.ready()):
                    for item in self._finish(*pending.popleft()):
                        yield item
                if extent.unread:
                    pending.append((extent, executor.submit(self._unread, extent, old)))
                else:
                    pending.append((extent, executor.submit(self._data, extent, fetched, old, self._pool.take())))
            while pending:
                for item in self._finish(*pending.popleft()):
                    yield item
        finally:
            executor.shutdown()

    def _extents(self):
        if self._stretches is None:
            return extents.plan(self._volume, self._block_size)
        return extents.hinted(self._volume, self._block_size, self._stretches)

    def _finish(self, extent, future):
        result = future.result()
        self._hash.update(result.digests)
        self._other_hash.update(result.other_digests)
        self.read += result.length
        if extent.audit:
            self.audited += extent.count
        elif self._stretches is not None and not extent.unread:
            self.hinted += extent.count
        for what, count in result.runs:
            self.changed += count if what != messages.SAME else 0
            self.zero += count if what == messages.ZERO else 0
        yield extent, result
        if result.buffer is not None:
            self._pool.put(result.buffer)

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

    def _unread(self, extent, old):
        """Return the Result of an extent that is not read."""
        if extent.kept:
            return Result([(messages.SAME, extent.count)], old)
        digests = self._zero_digests_of(self._digester, extent)
        other_digests = b"" if self._other is None else self._zero_digests_of(self._other, extent)
        runs = _Runs()
        if old == digests:
            runs.add(messages.SAME, extent.count)
        elif not old:
            runs.add(messages.ZERO, extent.count)
        else:
            for place in range(0, len(digests), BYTES_OF_DIGEST):
                same = digests[place : place + BYTES_OF_DIGEST] == old[place : place + BYTES_OF_DIGEST]
                runs.add(messages.SAME if same else messages.ZERO, 1)
        return Result(runs.list, digests, other_digests=other_digests)

    def _data(self, extent, fetched, old, buffer):
        self._volume.read_into(buffer.view[: extent.length], extent.offset)
        self._volume.cache.drop(fetched)
        digests = self._digester.digests(buffer, extent.length, self._block_size)
        if extent.audit:
            self._check(extent, digests, old if extent.kept else self._zero_digests_of(self._digester, extent))
        other_digests = b""
        if self._other is not None:
            other_digests = self._other.digests(buffer, extent.length, self._block_size)
        runs, changed_digests, places = _Runs(), [], []
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
                # the digest alone is no proof that a block is zero
                if digest == self._zero_digest(self._digester, end - start) and self._is_zero(buffer, start, end):
                    runs.add(messages.ZERO, 1)
                    continue
                runs.add(messages.CHANGED, 1)
                changed_digests.append(digest)
                if places and places[-1][1] == start:
                    places[-1][1] = end
                else:
                    places.append([start, end])
        result = Result(runs.list, digests, b"".join(changed_digests), other_digests)
        if self._pool.worth(sum(end - start for start, end in places)):
            result.frames = self._shared_pieces(buffer, places)  # FREE gives the buffer back
        else:
            result.frames, result.buffer = self._pieces(buffer, places), buffer
        result.length = extent.length
        return result

    def _check(self, extent, digests, expected):
        """Raise HintWrong unless the blocks are what they would have been unread."""
        for place in range(0, len(digests) if digests != expected else 0, BYTES_OF_DIGEST):
            if digests[place : place + BYTES_OF_DIGEST] != expected[place : place + BYTES_OF_DIGEST]:
                raise HintWrong(extent.offset + place // BYTES_OF_DIGEST * self._block_size)

    def _pieces(self, buffer, places):
        """Return (codec, length, body) of the DATA frames for these places of the buffer, in order."""
        frames = []
        parts, length = [], 0
        for start, end in places:
            while start < end:
                stop = min(end, start + messages.MAX_DATA - length)
                parts.append(buffer.view[start:stop])
                length += stop - start
                start = stop
                if length == messages.MAX_DATA:
                    frames.append(self._piece(parts, length))
                    parts, length = [], 0
        if parts:
            frames.append(self._piece(parts, length))
        return frames

    def _shared_pieces(self, buffer, places):
        """Do the same for a buffer in shared memory: the places are moved together, and not sent."""
        length = 0
        for start, end in places:
            if start > length:
                buffer.view[length : length + end - start] = buffer.view[start:end]
            length += end - start
        frames = []
        for start in range(0, length, messages.MAX_DATA):
            place = messages.encode_places([buffer.place + start])
            frames.append((messages.SHARED, min(messages.MAX_DATA, length - start), place))
        self._pool.lend(buffer, len(frames))
        return frames

    def _piece(self, parts, length):
        body = parts[0] if len(parts) == 1 else bytearray().join(parts)
        if self._compress():
            compressor = getattr(self._thread, "compressor", None)
            if compressor is None:
                compressor = self._thread.compressor = native.compressor()
            packed = compressor.compress(body)
            if packed is not None and len(packed) < length:
                return compressor.code, length, packed
        return messages.RAW, length, body


def buffer_size(volume, block_size):
    """Return the bytes of the largest extent of a volume, at least 1."""
    return min(extents.blocks_read(block_size) * block_size, max(volume.size, 1))


def _threads(asked):
    """Return how many threads work: one core is left to the host where it has more than two."""
    if asked.jobs > 0:
        return min(64, asked.jobs)
    if asked.digest == "xxh128":
        return 1  # it mostly waits for the disk, which reads ahead; more threads would only wait for each other
    try:
        cores = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        cores = os.cpu_count() or 1
    return max(1, min(cores if cores <= 2 else cores - 1, 8))


def _executor(jobs):
    """Return the executor to submit work to."""
    if jobs == 1:
        return _Alone()
    from concurrent.futures import ThreadPoolExecutor  # slow to load, and not every run needs it

    return ThreadPoolExecutor(jobs)


class _Alone:
    """An executor without threads: what is submitted is done at once."""

    def submit(self, work, *args):
        return _Finished(work(*args))

    def shutdown(self):
        pass


class _Finished(collections.namedtuple("_Finished", "value")):
    """The future of such work."""

    __slots__ = ()

    def result(self):
        return self.value


class _Runs:
    """Runs of blocks with the same result, joined as they are added."""

    def __init__(self):
        self.list = []

    def add(self, what, count):
        if self.list and self.list[-1][0] == what:
            self.list[-1] = (what, self.list[-1][1] + count)
        else:
            self.list.append((what, count))
