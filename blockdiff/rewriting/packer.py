"""The records of a new diff file become members, compressed by a pool of threads and written in order."""

import collections
from concurrent.futures import Future, ThreadPoolExecutor

from blockdiff import codecs
from blockdiff.blocks import blockset, checker
from blockdiff.blocks.checker import Checked
from blockdiff.formats import difffile
from blockdiff.formats.index import Member
from blockdiff.ingest import members
from blockdiff.ingest.members import MadeMember
from blockdiff.sets.newdiff import NewDiff
from blockdiff.sets.version import Version

_IN_FLIGHT = 6 * 1024 * 1024  # bytes of payload that wait for the pool or are compressed, plus one member


class Packer:
    """Writes the diff file of a version out of rows that are proved, in block order."""

    def __init__(self, out: NewDiff, codec: codecs.Codec, version: Version, pool: ThreadPoolExecutor) -> None:
        """`version`: what the blocks are of."""
        self._out, self._codec, self._pool = out, codec, pool
        self._block_size, self._count = version.block_size, version.count
        # rows of zeros are of whole blocks: the last one may be short, but then it is no such row
        self._zero_members = members.ZeroMembers(codec, version.count * version.block_size, version.block_size)
        self._most = members.most_records(version.block_size)
        self._room = bytearray()  # the payload of the next member
        self._first = self._last = self._held = 0  # its blocks, and how many
        self._zeros: list[blockset.Run] = []  # blocks of zeros after those
        self._waiting = 0  # how many
        self._pending: collections.deque[tuple[MadeMember, Future[bytes]]] = collections.deque()
        self._in_flight = 0
        self.records = blockset.Blocks(version.count)  # blocks that are in the file
        self.zero = 0  # how many of them are zeros
        self.payload = 0  # bytes of the diff file before compression
        self.copied = 0  # bytes of the diff file that were not compressed anew
        self.last_length: int | None = None  # bytes of the volume's last block, where it is in the file
        self._write(members.header(codec, version.block_size))

    def add(self, rows: list[Checked]) -> None:
        """Append blocks."""
        for kind, first, stop, block in rows:
            self._note(kind, first, stop, len(block) or self._block_size)
            if kind == checker.ZERO:
                blockset.append(self._zeros, first, stop)
                self._waiting += stop - first
                if self._waiting > self._most:
                    self._flush_zeros()
            else:
                self._flush_zeros()
                self._put(first, block)

    def copy(self, member: MadeMember, rows: list[Checked]) -> None:
        """Append a member as it is; `rows` are the blocks in it."""
        for kind, first, stop, block in rows:
            self._note(kind, first, stop, len(block) or self._block_size)
        self._flush_zeros()
        self._flush()
        self.copied += len(member.data)
        self._queue(member, None)

    def close(self) -> None:
        """Write what is left."""
        self._flush_zeros()
        self._flush()
        self._drain(0)

    def _note(self, kind: int, first: int, stop: int, length: int) -> None:
        self.records.add(first, stop)
        self.zero += stop - first if kind == checker.ZERO else 0
        if stop == self._count:
            self.last_length = length

    def _put(self, index: int, block: memoryview) -> None:
        if self._held == self._most:
            self._flush()
        self._first = self._first if self._held else index
        self._room += difffile.encode_offset(index * self._block_size)
        self._room += block
        self._last, self._held = index, self._held + 1

    def _flush_zeros(self) -> None:
        """Append the zero blocks that wait, as members of their own if they are many."""
        runs, count = self._zeros, self._waiting
        self._zeros, self._waiting = [], 0
        if members.is_long(count, self._block_size):
            self._flush()
            for member in self._zero_members.of((first, stop - first) for first, stop in runs):
                self._queue(member, None)
            return
        zeros = memoryview(bytes(self._block_size if count else 0))
        for first, stop in runs:
            for index in range(first, stop):
                self._put(index, zeros)

    def _flush(self) -> None:
        if not self._held:
            return
        room, self._room, self._held = self._room, bytearray(), 0
        step = difffile.OFFSET_SIZE + self._block_size
        member = MadeMember(b"", len(room), self._first, self._last)
        self._queue(member, self._pool.submit(self._codec.compress, room, step))

    def _queue(self, member: MadeMember, future: Future[bytes] | None) -> None:
        """Write a member when those before it are written; `future`: its bytes, if they are not made yet."""
        if future is None:
            future = Future()
            future.set_result(member.data)
        self._pending.append((member, future))
        self._in_flight += member.payload
        self._drain(_IN_FLIGHT)

    def _drain(self, most: int) -> None:
        while self._pending and (self._in_flight > most or self._pending[0][1].done()):
            member, future = self._pending.popleft()
            member.data = future.result()
            self._in_flight -= member.payload
            self._write(member)

    def _write(self, member: MadeMember) -> None:
        member.check()
        self._out.index(Member(self._out.stored, self.payload, member.first, member.last))
        self._out.write(member.data)
        self.payload += member.payload
