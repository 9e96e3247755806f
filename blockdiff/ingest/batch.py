"""Batches: neighbouring blocks with all that came for them, made into digests and members.

Each block is checked against the digest that came with it before anything is made of it.
"""

import collections
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from blockdiff import codecs
from blockdiff.blocks.md5many import md5_many, md5_of
from blockdiff.formats import BYTES_OF_DIGEST, Buffer, FormatError, difffile
from blockdiff.ingest import wirecodecs
from blockdiff.ingest.members import MadeMember, ZeroMembers, is_long, most_records
from blockdiff.wire import messages

Run = tuple[int, int, int]  # (SAME | ZERO | CHANGED, first block, count of blocks)


def expect(condition: bool, complaint: str) -> None:
    """Raise FormatError with a complaint unless a condition is true."""
    if not condition:
        raise FormatError(complaint)


class Data(NamedTuple):
    """What a DATA frame carried."""

    codec: int
    length: int  # bytes once decompressed
    body: Buffer
    place: int | None = None  # of the body in shared memory, which is to be given back


@dataclass
class Batch:
    """Neighbouring runs of blocks, with all that came for them."""

    runs: list[Run] = field(default_factory=list)
    compared: list[bytes] = field(default_factory=list)  # digests of the changed blocks
    other_digests: list[bytes] = field(default_factory=list)  # of all blocks, the other kind's
    frames: list[Data] = field(default_factory=list)
    length: int = 0  # bytes of blocks that its ordinary members will hold
    weight: int = 0  # bytes that it counts while it is in flight
    blocks: int = 0


@dataclass
class Done:
    """A batch's results."""

    runs: list[Run]
    md5: bytes  # of the changed blocks
    xxh: bytes  # of the changed blocks
    other_digests: bytes
    members: list[MadeMember | list[Run]]  # Runs: many zero blocks, whose members are made as they are written


def stretches(runs: Iterable[Run]) -> Iterator[tuple[int, list[Run]]]:
    """Yield the runs that make records, neighbours of a kind as one: (ZERO | CHANGED, its runs).

    What is unchanged parts nothing: zero blocks with only such between them are neighbours in the
    diff file.  Runs that the agent sent one by one are joined.
    """
    records = (run for run in runs if run[0] != messages.SAME)
    for what, group in itertools.groupby(records, lambda run: run[0]):
        joined: list[Run] = []
        for _, first, count in group:
            if joined and joined[-1][1] + joined[-1][2] == first:
                first, count = joined[-1][1], joined.pop()[2] + count
            joined.append((what, first, count))
        yield what, joined


def _check(blocks: list[int], found: bytes, expected: bytes) -> None:
    """Raise FormatError unless each of these blocks has the digest that came with it."""
    if expected.startswith(found):
        return
    for number, index in enumerate(blocks):
        place = number * BYTES_OF_DIGEST
        right = found[place : place + BYTES_OF_DIGEST] == expected[place : place + BYTES_OF_DIGEST]
        expect(right, f"block {index} does not have the digest it came with")


class BatchWorker:
    """Makes the digests and the members of one version."""

    def __init__(
        self, codec: codecs.Codec, size: int, block_size: int, compared: str, free: Callable[[list[int]], object]
    ) -> None:
        """`size` is the volume's, in bytes; `compared` the kind of digest that comes with each changed block.

        `free` is called with the places of shared memory that are not needed any more.
        """
        self._free = free
        self.zeros = ZeroMembers(codec, size, block_size)
        self._codec, self._size, self._block_size = codec, size, block_size
        self._xxh_compared = compared == "xxh128"
        self._step = difffile.OFFSET_SIZE + block_size  # bytes of a record
        self._zeros = memoryview(bytes(min(block_size, max(size, 1))))
        self._local = threading.local()
        self._zero_digests: dict[int, tuple[bytes, bytes]] = {}

    def bytes_of(self, first: int, count: int) -> int:
        """Return how many bytes of the volume these blocks are; only the last may be shorter."""
        return min((first + count) * self._block_size, self._size) - first * self._block_size

    def work(self, batch: Batch) -> Done:
        """Return what becomes of a batch; any thread may ask.  Raises FormatError."""
        import xxhash

        take = self._taker(batch.frames)
        expected = b"".join(batch.compared)
        parts = [(what, runs, what == messages.ZERO and self.are_many(runs)) for what, runs in stretches(batch.runs)]
        room = self._room(sum(count for _, runs, many in parts if not many for _, _, count in runs))
        md5: list[bytes] = []
        xxh: list[bytes] = []
        compared = xxh if self._xxh_compared else md5
        members: list[MadeMember | list[Run]] = []
        changed: list[int] = []  # blocks in the room that came
        spans: list[tuple[int, int]] = []  # and where each begins and ends there
        begin = after = 0  # blocks of the records that wait in the room
        end = 0  # bytes of them
        last = self._size // self._block_size  # block that may be shorter

        def flush() -> None:
            nonlocal end
            if not end:
                return
            done = len(compared)
            md5.extend(md5_of(room, spans, self._step))
            xxh.extend([xxhash.xxh3_128_digest(room[start:stop]) for start, stop in spans])
            _check(changed, b"".join(compared[done:]), expected[done * BYTES_OF_DIGEST :])
            members.append(MadeMember(self._codec.compress(room[:end], self._step), end, begin, after - 1))
            changed.clear()
            spans.clear()
            end = 0

        for what, runs, many in parts:
            if many:
                flush()
                members.append(runs)
                continue
            for index in itertools.chain.from_iterable(range(first, first + count) for _, first, count in runs):
                length = self._block_size if index < last else self.bytes_of(index, 1)
                start, stop = end + difffile.OFFSET_SIZE, end + difffile.OFFSET_SIZE + length
                if stop > len(room):
                    flush()
                    start, stop = difffile.OFFSET_SIZE, difffile.OFFSET_SIZE + length
                room[start - difffile.OFFSET_SIZE : start] = difffile.encode_offset(index * self._block_size)
                if what == messages.ZERO:
                    room[start:stop] = self._zeros[:length]
                else:
                    take(room, start, stop)
                    changed.append(index)
                    spans.append((start, stop))
                begin = begin if end else index
                end, after = stop, index + 1
        flush()
        return Done(batch.runs, b"".join(md5), b"".join(xxh), b"".join(batch.other_digests), members)

    def zeros_among(self, runs: list[Run]) -> int:
        """Return how many bytes of zero blocks are among changed ones in these runs' members."""
        return sum(
            self.bytes_of(first, count)
            for what, group in stretches(runs)
            if what == messages.ZERO and not self.are_many(group)
            for _, first, count in group
        )

    def are_many(self, runs: list[Run]) -> bool:
        """Return whether the zero blocks of a stretch make members of their own."""
        return is_long(sum(count for _, _, count in runs), self._block_size)

    def _room(self, records: int) -> memoryview:
        """Return memory of this thread's for so many records, but a member's at most; it is used again and again."""
        size = min(records, most_records(self._block_size)) * self._step
        room: bytearray | None = getattr(self._local, "room", None)
        if room is None or len(room) < size:
            room = self._local.room = bytearray(size)
        return memoryview(room)[:size]

    def digests_of_zeros(self, first: int, count: int) -> tuple[bytes, bytes]:
        """Return the MD5 and the XXH3-128 digests of zero blocks; only the volume's last is shorter."""
        import xxhash

        out = [b"", b""]
        tail = self.bytes_of(first + count - 1, 1)
        for length, times in ((self._block_size, count - 1), (tail, 1)):
            if times and length not in self._zero_digests:
                zeros = self._zeros[:length]
                md5 = md5_many(zeros, 1, length, 1)
                self._zero_digests[length] = (md5, xxhash.xxh3_128_digest(zeros))
            for kind in (0, 1) if times else ():
                out[kind] += self._zero_digests[length][kind] * times
        return out[0], out[1]

    def _taker(self, frames: list[Data]) -> Callable[[memoryview, int, int], None]:
        """Return a function that fills memory, from start to stop, with the next bytes of the frames' data."""
        waiting = collections.deque(frames)
        frames.clear()  # each goes as soon as it is taken
        piece = memoryview(b"")
        taken = 0  # bytes of it
        places: list[int] = []  # of shared memory, taken

        def take(room: memoryview, start: int, stop: int) -> None:
            nonlocal piece, taken
            while start < stop:
                if taken == len(piece):
                    data = waiting.popleft()
                    piece, taken = memoryview(wirecodecs.unwrap(data.codec, data.length, data.body)), 0
                    if data.place is not None:
                        places.append(data.place)
                length = min(stop - start, len(piece) - taken)
                room[start : start + length] = piece[taken : taken + length]
                start += length
                taken += length
            # all at once: a message for each would cost more than the memory is worth
            if places and not waiting and taken == len(piece):
                self._free(places)

        return take
