"""Batches: neighbouring blocks with all that came for them, made into digests and members.

Each block is proved against the digest that came with it before anything is made of it.
"""

import collections
import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from blockdiff import codecs
from blockdiff.formats import BYTES_OF_DIGEST, FormatError, difffile, messages
from blockdiff.members import MadeMember, ZeroMembers

Buffer = bytes | bytearray | memoryview
Run = tuple[int, int, int]  # (SAME | ZERO | CHANGED, first block, count of blocks)

_LONG = 4  # so many zero blocks in a row, or a MiB of them, make members of their own


def expect(truth: bool, complaint: str) -> None:
    """Raise FormatError with a complaint unless something is true."""
    if not truth:
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
    told: list[bytes] = field(default_factory=list)  # digests of the changed blocks
    others: list[bytes] = field(default_factory=list)  # of all blocks, the other kind's
    frames: list[Data] = field(default_factory=list)
    length: int = 0  # bytes of its changed blocks
    weight: int = 0  # bytes that it counts while it is in flight
    blocks: int = 0


@dataclass
class Done:
    """A batch's results."""

    runs: list[Run]
    md5: bytes  # of the changed blocks
    xxh: bytes  # of the changed blocks
    others: bytes
    members: list[MadeMember | Run]  # a Run stands for a long run of zero blocks


class Maker:
    """Makes the digests and the members of one version."""

    def __init__(
        self, codec: codecs.Codec, size: int, block_size: int, told: str, seen: Callable[[list[int]], object]
    ) -> None:
        """`size` is the volume's, in bytes; `told` the kind of digest that comes with each changed block.

        `seen` is called with the places of shared memory that are of no use any more.
        """
        self._seen = seen
        self.zeros = ZeroMembers(codec, size, block_size)
        self._codec, self._size, self._block_size = codec, size, block_size
        self._told_xxh = told == "xxh128"
        self._step = difffile.OFFSET_SIZE + block_size  # bytes of a record
        self._zeros = memoryview(bytes(min(block_size, max(size, 1))))
        self._local = threading.local()
        self._zero_digests: dict[int, tuple[bytes, bytes]] = {}

    def bytes_of(self, first: int, count: int) -> int:
        """Return how many bytes of the volume these blocks are; only the last may be shorter."""
        return min((first + count) * self._block_size, self._size) - first * self._block_size

    def header(self) -> MadeMember:
        """Return the first member: the block size, alone, so that all others are made alike."""
        header = difffile.encode_header(self._block_size)
        return MadeMember(self._codec.compress(header), len(header), 0, 0)

    def work(self, batch: Batch) -> Done:
        """Return what becomes of a batch; any thread may ask.  Raises FormatError."""
        import xxhash

        md5_of, xxh_of = hashlib.md5, xxhash.xxh3_128_digest
        take = self._taker(batch.frames)
        told = b"".join(batch.told)
        room = self._room(batch)
        md5: list[bytes] = []
        xxh: list[bytes] = []
        told_by = xxh if self._told_xxh else md5
        members: list[MadeMember | Run] = []
        begin = after = 0  # blocks of the records that wait in the room
        end = 0  # bytes of them

        def flush() -> None:
            nonlocal end
            if end:
                members.append(MadeMember(self._codec.compress(room[:end], self._step), end, begin, after - 1))
                end = 0

        for what, first, count in batch.runs:
            if what == messages.SAME:
                continue
            if what == messages.ZERO and self._is_long(count):
                flush()
                members.append((what, first, count))
                continue
            for index in range(first, first + count):
                length = self.bytes_of(index, 1)
                start, stop = end + difffile.OFFSET_SIZE, end + difffile.OFFSET_SIZE + length
                room[end:start] = difffile.encode_offset(index * self._block_size)
                block = room[start:stop]
                if what == messages.ZERO:
                    block[:] = self._zeros[:length]
                else:
                    take(block)
                    place = len(md5) * BYTES_OF_DIGEST
                    md5.append(md5_of(block, usedforsecurity=False).digest())
                    xxh.append(xxh_of(block))
                    right = told_by[-1] == told[place : place + BYTES_OF_DIGEST]
                    expect(right, f"block {index} does not have the digest it came with")
                begin = begin if end else index
                end, after = stop, index + 1
        flush()
        return Done(batch.runs, b"".join(md5), b"".join(xxh), b"".join(batch.others), members)

    def _is_long(self, count: int) -> bool:
        """Tell whether so many zero blocks in a row make members of their own."""
        return count >= _LONG or count * self._block_size >= messages.MAX_DATA

    def _room(self, batch: Batch) -> memoryview:
        """Return memory of this thread's for all records of a batch; it is used again and again."""
        size = 0
        for what, first, count in batch.runs:
            if what == messages.CHANGED or (what == messages.ZERO and not self._is_long(count)):
                size += self.bytes_of(first, count) + count * difffile.OFFSET_SIZE
        room: bytearray | None = getattr(self._local, "room", None)
        if room is None or len(room) < size:
            room = self._local.room = bytearray(size)
        return memoryview(room)

    def digests_of_zeros(self, first: int, count: int) -> tuple[bytes, bytes]:
        """Return the MD5 and the XXH3-128 digests of zero blocks; only the volume's last is shorter."""
        import xxhash

        out = [b"", b""]
        tail = self.bytes_of(first + count - 1, 1)
        for length, times in ((self._block_size, count - 1), (tail, 1)):
            if times and length not in self._zero_digests:
                zeros = self._zeros[:length]
                md5 = hashlib.md5(zeros, usedforsecurity=False).digest()
                self._zero_digests[length] = (md5, xxhash.xxh3_128_digest(zeros))
            for kind in (0, 1) if times else ():
                out[kind] += self._zero_digests[length][kind] * times
        return out[0], out[1]

    def _taker(self, frames: list[Data]) -> Callable[[memoryview], None]:
        """Return a function that fills memory with the next bytes of the frames' data."""
        waiting = collections.deque(frames)
        frames.clear()  # each goes as soon as it is taken
        piece = memoryview(b"")
        seen: list[int] = []

        def take(room: memoryview) -> None:
            nonlocal piece
            while room:
                if not piece:
                    data = waiting.popleft()
                    piece = memoryview(codecs.unwrap(data.codec, data.length, data.body))
                    if data.place is not None:
                        seen.append(data.place)
                length = min(len(room), len(piece))
                room[:length] = piece[:length]
                room, piece = room[length:], piece[length:]
            # all at once: a message for each would cost more than the memory is worth
            if seen and not piece and not waiting:
                self._seen(seen)

        return take
