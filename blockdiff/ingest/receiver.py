"""The receiver: what an agent sends becomes the files of a version.

Extents arrive in block order and are gathered into batches of about one member.  A pool
of threads decompresses, checks each block against the digest that came with it, computes
the digests that did not come, and compresses; results are written in order.  What is in
flight is bounded by bytes.  Nothing the agent sends is trusted: what it calls unchanged must
have been there, each block must have the digest that came with it, and at the end counts and
digest files must agree.
Format: blockdiff-protocol(5), "EXTENT", "DATA", "END".
"""

import collections
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from blockdiff import codecs
from blockdiff.codecs import base
from blockdiff.errors import ProtocolBroken
from blockdiff.formats import BYTES_OF_DIGEST, Buffer, FormatError, digestfile, manifest
from blockdiff.formats.index import Member
from blockdiff.ingest import members
from blockdiff.ingest.batch import Batch, BatchWorker, Data, Done, expect
from blockdiff.ingest.comparison import Comparison, HintWrong
from blockdiff.ingest.members import MadeMember
from blockdiff.source.session import Session
from blockdiff.wire import messages

_IN_FLIGHT = 16 * 1024 * 1024  # bytes of blocks that wait for the pool or are worked on
_BLOCK_COST = 256  # bytes that a changed block, or a run, counts beside its own
_MAX_BLOCKS = 65536  # in a batch
_MAX_RUNS = 16384  # in a batch
_DIGESTS_AT_ONCE = 65536  # blocks whose digests are copied from the parent's


class Writer(Protocol):
    """Where a version's bytes go, each in order."""

    def diff(self, member: bytes) -> None:
        """Take the next member of the diff file."""

    def index(self, member: Member) -> None:
        """Take the entry of that member."""

    def md5(self, digests: Buffer) -> None:
        """Take the next MD5 digests, without a header."""

    def xxh128(self, digests: Buffer) -> None:
        """Take the next XXH3-128 digests, without a header."""

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256, in hex, of each whole digest file that was written: "md5", "xxh128"."""


@dataclass
class Totals:
    """What a scan came to."""

    blocks: int = 0
    changed: int = 0
    zero: int = 0  # changed blocks that are zero
    read: int = 0  # bytes that the agent read
    payload: int = 0  # bytes of the diff file before compression
    stored: int = 0  # bytes of the diff file
    snapshot: dict[str, Any] | None = None  # fill in percent, size in bytes, extended: at the end
    hint: manifest.Hint | None = None  # None: all was read
    keeps: bool = False  # the agent waits for KEEP


class Receiver:
    """One version on its way from the agent to a Writer."""

    def __init__(
        self,
        session: Session,
        writer: Writer,
        codec: codecs.Codec,
        size: int,
        comparison: Comparison,
        progress: Callable[[int], object] = lambda length: None,
        *,
        hints: bool = False,
        wrong: int | None = None,
    ) -> None:
        """`size`: bytes of the volume; `progress` is called with how many more of them are done.

        `hints`: they were asked for; `wrong`: the offset at which one was, so that this is the second pass.
        """
        self._session, self._writer, self._size = session, writer, size
        self._comparison = comparison
        self._block_size = comparison.block_size
        self._codec = codec
        self._worker = BatchWorker(codec, size, self._block_size, comparison.compared, session.free)
        self._progress = progress
        self._hints, self._wrong = hints, wrong
        self.totals = Totals(blocks=digestfile.blocks_of(size, self._block_size))
        self._most_data = max(messages.MAX_DATA, self._block_size)  # bytes of changed blocks in an extent
        self._next = 0  # block that the next extent begins with
        self._owed = 0  # bytes of DATA that the extent announced and that have not come
        self._batch = Batch()

    def run(self, threads: int) -> Totals:
        """Take everything until the agent's END, work on it in so many threads, and write it.

        Raises ProtocolBroken if anything does not agree, and whatever ends the session.  Raises HintWrong
        if a second pass follows, by a new Receiver, of which nothing that was written here is a part.
        """
        pool = ThreadPoolExecutor(threads, thread_name_prefix="receiver")
        pending: collections.deque[tuple[int, Future[Done]]] = collections.deque()
        in_flight = 0
        try:
            self._write_member(members.header(self._codec, self._block_size))
            end: memoryview | None = None
            while end is None:
                kind, payload = self._session.receive()
                if kind == messages.END:
                    expect(self._owed == 0 and self._next == self.totals.blocks, "it ended before the volume did")
                    end = payload
                else:
                    self._take(kind, payload)
                batch = self._ready(end is not None)
                room = 0 if end is not None else _IN_FLIGHT - (batch.weight if batch else 0)
                while pending and (in_flight > room or len(pending) > 2 * threads):
                    weight, future = pending.popleft()
                    self._write(future.result())
                    in_flight -= weight
                if batch:
                    pending.append((batch.weight, pool.submit(self._worker.work, batch)))
                    in_flight += batch.weight
            while pending:
                self._write(pending.popleft()[1].result())
            self._check_end(end)
        except FormatError as error:
            raise ProtocolBroken(self._session.host, error) from None
        finally:
            pool.shutdown(cancel_futures=True)
        return self.totals

    # what arrives

    def _take(self, kind: int, payload: memoryview) -> None:
        if kind == messages.DATA:
            codec, length, body = messages.decode_data(payload)
            expect(length <= self._owed, "more data than was announced")
            # small pieces would cost far more memory than the bytes that they are counted by
            expect(length == min(messages.MAX_DATA, self._owed), f"a piece of {length} bytes before the last one")
            self._owed -= length
            shared = codec == messages.SHARED
            self._batch.frames.append(self._shared(length, body) if shared else Data(codec, length, body))
            return
        if kind == messages.AGAIN and self._hints and self._wrong is None and self._owed == 0:
            offset = messages.decode_talk(payload, offset=int)["offset"]
            expect(0 <= offset < self._size, f"a hint wrong at byte {offset} of {self._size}")
            self._progress(-min(self._next * self._block_size, self._size))
            raise HintWrong(offset)
        expect(kind == messages.EXTENT, f"unexpected frame {kind}")
        expect(self._owed == 0, "an extent before the data of the last one")
        extent = messages.decode_extent(payload, self._next, self.totals.blocks)
        has_others = bool(extent.other_digests) == self._comparison.other_digests
        expect(has_others, "digests that were not asked for, or not those that were")
        batch, runs_before = self._batch, len(self._batch.runs)
        batch.other_digests.append(extent.other_digests)
        batch.compared.append(extent.digests)
        for what, count in extent.runs:
            first = self._next
            self._next += count
            batch.runs.append((what, first, count))
            if what == messages.SAME:
                known = self._comparison.md5.count if self._comparison.md5 is not None else 0
                expect(first + count <= known, f"block {first} unchanged, but the parent has no such block")
                expect(self._as_long(first + count - 1, known), "a block unchanged, but not as long as the parent's")
                continue
            self.totals.changed += count
            if what == messages.ZERO:
                self.totals.zero += count
            else:
                self._owed += self._worker.bytes_of(first, count)
        length = self._owed + self._worker.zeros_among(batch.runs[runs_before:])
        batch.length += length
        batch.weight += length + len(extent.other_digests)
        batch.weight += (len(extent.digests) // BYTES_OF_DIGEST + len(extent.runs)) * _BLOCK_COST
        batch.blocks += self._next - extent.first
        expect(self._owed <= self._most_data, f"an extent with {self._owed} bytes of changed blocks")
        self._progress(self._worker.bytes_of(extent.first, self._next - extent.first))

    def _shared(self, length: int, body: Buffer) -> Data:
        """Return the data that is in shared memory."""
        shared, (place, *more) = self._session.shared, messages.decode_places(body)
        if more or shared is None or place + length > len(shared.view):
            raise FormatError(f"data at {place} of memory that is not shared")
        return Data(messages.RAW, length, shared.view[place : place + length], place)

    def _as_long(self, index: int, known: int) -> bool:
        """Return whether a block is as long as in the parent, of `known` blocks, as far as that can be known."""
        if index < known - 1:
            return self._worker.bytes_of(index, 1) == self._block_size
        old_size = self._comparison.old_size
        return old_size is None or self._worker.bytes_of(index, 1) == old_size - index * self._block_size

    def _ready(self, ended: bool) -> Batch | None:
        """Return the batch if it is to be worked on now."""
        batch = self._batch
        full = (
            batch.length > base.MEMBER_SIZE - self._most_data
            or batch.blocks >= _MAX_BLOCKS
            or len(batch.runs) >= _MAX_RUNS
        )
        if self._owed or not batch.runs or not (full or ended):
            return None
        self._batch = Batch()
        return batch

    # in order

    def _write(self, done: Done) -> None:
        place = 0
        base = done.runs[0][1]
        old_md5, old_xxh = self._comparison.md5, self._comparison.xxh
        for what, first, count in done.runs:
            if what == messages.CHANGED:
                end = place + count * BYTES_OF_DIGEST
                self._writer.md5(done.md5[place:end])
                self._write_xxh(done, base, first, count, done.xxh[place:end])
                place = end
                continue
            for start in range(first, first + count, _DIGESTS_AT_ONCE):
                some = min(_DIGESTS_AT_ONCE, first + count - start)
                if what == messages.ZERO:
                    md5, xxh = self._worker.digests_of_zeros(start, some)
                    self._writer.md5(md5)
                else:
                    assert old_md5 is not None
                    self._writer.md5(old_md5.take(start, some))
                    xxh = old_xxh.take(start, some) if old_xxh is not None else b""
                self._write_xxh(done, base, start, some, xxh)
        for member in done.members:
            if isinstance(member, MadeMember):
                self._write_member(member)
            else:
                for made in self._worker.zeros.of(run[1:] for run in member):
                    self._write_member(made)

    def _write_xxh(self, done: Done, base: int, first: int, count: int, ours: bytes) -> None:
        if not self._comparison.keep_xxh:
            return
        if done.other_digests:  # of all blocks; what was also computed here must agree
            place = (first - base) * BYTES_OF_DIGEST
            theirs = done.other_digests[place : place + count * BYTES_OF_DIGEST]
            expect(not ours or ours == theirs, f"blocks from {first} on do not have the XXH3-128 that came with them")
            ours = theirs
        self._writer.xxh128(ours)

    def _write_member(self, member: MadeMember) -> None:
        member.check()
        self._writer.index(Member(self.totals.stored, self.totals.payload, member.first, member.last))
        self._writer.diff(member.data)
        self.totals.stored += len(member.data)
        self.totals.payload += member.payload

    def _check_end(self, payload: memoryview) -> None:
        end = messages.decode_talk(
            payload, total=int, changed=int, zero=int, read=int, digests=dict, snapshot=(dict, type(None))
        )
        if end["snapshot"] is not None:
            self.totals.snapshot = messages.check(
                end["snapshot"], fill=(int, float), size=(int, type(None)), extended=int
            )
        ours = self.totals
        for name, theirs, found in (
            ("blocks", end["total"], ours.blocks),
            ("changed blocks", end["changed"], ours.changed),
            ("zero blocks", end["zero"], ours.zero),
        ):
            expect(theirs == found, f"it counted {theirs} {name}, here are {found}")
        most = self._size if self._wrong is None else 2 * self._size
        expect(0 <= end["read"] <= most, f"it read {end['read']} bytes of {self._size}")
        if self._hints:
            self._take_hint(messages.check(end, hint=(dict, type(None)), keeps=bool))
        ours.read = end["read"]
        hashes = self._writer.hashes()
        for kind in {self._comparison.compared} | ({"md5", "xxh128"} if self._comparison.other_digests else set()):
            expect(end["digests"].get(kind) == hashes[kind], f"the {kind} digests differ from those it computed")

    def _take_hint(self, end: dict[str, Any]) -> None:
        """Take what END has of a hint."""
        self.totals.keeps = end["keeps"]
        wrong = None
        if end["hint"] is not None:
            told = messages.check(end["hint"], method=str, blocks=int, audited=int, wrong=(int, type(None)))
            wrong = told["wrong"]
            known = told["method"] in ("mappings", "thin_delta") and told["blocks"] >= 0 <= told["audited"]
            expect(known and told["blocks"] + told["audited"] <= self.totals.blocks, "an impossible hint")
            self.totals.hint = manifest.Hint(told["method"], told["blocks"], told["audited"], wrong)
        expect(wrong == self._wrong, f"a hint wrong at byte {wrong}, it was at {self._wrong}")
