"""Batches: neighbouring blocks with all that came for them, made into digests and members.

Each block is proved against the digest that came with it before anything is made of it.
"""

import collections
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from blockdiff import codecs
from blockdiff.formats import BYTES_OF_DIGEST, FormatError, difffile, messages

Buffer = bytes | bytearray | memoryview
Run = tuple[int, int, int]  # (SAME | ZERO | CHANGED, first block, count of blocks)

_LONG = 4  # so many zero blocks in a row, or a MiB of them, make members of their own


def expect(truth: bool, complaint: str) -> None:
    """Raise FormatError with a complaint unless something is true."""
    if not truth:
        raise FormatError(complaint)


@dataclass
class Batch:
    """Neighbouring runs of blocks, with all that came for them."""

    runs: list[Run] = field(default_factory=list)
    told: list[bytes] = field(default_factory=list)  # digests of the changed blocks
    others: list[bytes] = field(default_factory=list)  # of all blocks, the other kind's
    frames: list[tuple[int, int, Buffer]] = field(default_factory=list)  # (codec, length, body)
    length: int = 0  # bytes of its changed blocks
    weight: int = 0  # bytes that it counts while it is in flight
    blocks: int = 0


@dataclass
class MadeMember:
    """A member of ordinary records, compressed."""

    data: bytes
    payload: int
    first: int
    last: int


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

    def __init__(self, codec: codecs.Codec, size: int, block_size: int, told: str) -> None:
        """`size` is the volume's, in bytes; `told` the kind of digest that comes with each changed block."""
        self._codec, self._size, self._block_size = codec, size, block_size
        self._told_xxh = told == "xxh128"
        self._step = difffile.OFFSET_SIZE + block_size  # bytes of a record
        self._zeros = memoryview(bytes(min(block_size, max(size, 1))))
        self._zero_digests: dict[int, tuple[bytes, bytes]] = {}

    def bytes_of(self, first: int, count: int) -> int:
        """Return how many bytes of the volume these blocks are; only the last may be shorter."""
        return min((first + count) * self._block_size, self._size) - first * self._block_size

    def header(self) -> MadeMember:
        """Return the first member: the block size, alone, so that all others are made alike."""
        header = difffile.encode_header(self._block_size)
        return MadeMember(self._codec.compress([header]), len(header), 0, 0)

    def work(self, batch: Batch) -> Done:
        """Return what becomes of a batch; any thread may ask.  Raises FormatError."""
        blocks = self._blocks(batch.frames)
        told = b"".join(batch.told)
        batch.frames = []
        md5, xxh = bytearray(), bytearray()
        members: list[MadeMember | Run] = []
        parts: list[Buffer] = []
        held: tuple[int, int] | None = None  # first and last block of the parts
        place = 0

        def flush() -> None:
            nonlocal parts, held
            if held is not None:
                length = sum(len(part) for part in parts)
                members.append(MadeMember(self._codec.compress(parts), length, *held))
                parts, held = [], None

        for what, first, count in batch.runs:
            if what == messages.SAME:
                continue
            if what == messages.ZERO:
                if count >= _LONG or count * self._block_size >= messages.MAX_DATA:
                    flush()
                    members.append((what, first, count))
                    continue
                for index in range(first, first + count):
                    parts += self._zero_record(index)
            else:
                for index in range(first, first + count):
                    block = blocks(self.bytes_of(index, 1))
                    digest = told[place : place + BYTES_OF_DIGEST]
                    place += BYTES_OF_DIGEST
                    self._prove(index, block, digest, md5, xxh)
                    parts.append(difffile.encode_offset(index * self._block_size))
                    parts += block
            held = (first if held is None else held[0], first + count - 1)
        flush()
        return Done(batch.runs, bytes(md5), bytes(xxh), b"".join(batch.others), members)

    def _blocks(self, frames: list[tuple[int, int, Buffer]]) -> Callable[[int], list[memoryview]]:
        """Return a function that hands out the data of frames, so many bytes at a time, as views."""
        pieces = collections.deque(memoryview(codecs.unwrap(*frame)) for frame in frames)

        def take(length: int) -> list[memoryview]:
            out = []
            while length:
                piece = pieces[0]
                if len(piece) > length:
                    pieces[0] = piece[length:]
                    piece = piece[:length]
                else:
                    pieces.popleft()
                out.append(piece)
                length -= len(piece)
            return out

        return take

    def _prove(self, index: int, block: list[memoryview], told: bytes, md5: bytearray, xxh: bytearray) -> None:
        """Append both digests of a block; raises FormatError if it is not the block that was told of."""
        import xxhash

        md5_of, xxh_of = hashlib.md5(usedforsecurity=False), xxhash.xxh3_128()
        for part in block:
            md5_of.update(part)
            xxh_of.update(part)
        digests = md5_of.digest(), xxh_of.digest()
        expect(digests[self._told_xxh] == told, f"block {index} does not have the digest it came with")
        md5 += digests[0]
        xxh += digests[1]

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

    def zero_members(self, first: int, count: int) -> Iterator[MadeMember]:
        """Yield members that hold a long run of zero blocks, made one at a time."""
        per_member = max(1, codecs.MEMBER_SIZE // self._step)
        for start in range(first, first + count, per_member):
            some = min(per_member, first + count - start)
            length = self.bytes_of(start, some)
            payload = length + some * difffile.OFFSET_SIZE
            data = None
            if length == some * self._block_size:
                data = self._codec.zeros(b"", start, self._block_size, some)
            if data is None:
                parts: list[Buffer] = []
                for index in range(start, start + some):
                    parts += self._zero_record(index)
                data = self._codec.compress(parts)
            yield MadeMember(data, payload, start, start + some - 1)

    def _zero_record(self, index: int) -> tuple[Buffer, Buffer]:
        offset = difffile.encode_offset(index * self._block_size)
        return offset, self._zeros[: self.bytes_of(index, 1)]
