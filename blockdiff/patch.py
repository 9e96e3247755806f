"""The original's merge: one diff file's payload from a stream, written over what is there.

A stream contains neither its length nor the volume's.  A stream that was cut between two
records looks complete, and one that was cut inside its last block looks like that of a
volume with a short last block.  The version's digest file, if given, shows both: every
record is checked before it is written, and every block of the target afterwards.
Format: blockdiff-formats(5), "Diff file".
"""

import contextlib
import errno
import functools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from blockdiff.blocks import parallel
from blockdiff.blocks.checker import BlockChecker
from blockdiff.blocks.md5many import md5_many, md5_of
from blockdiff.errors import (
    BlockdiffError,
    DamagedFile,
    DigestMismatch,
    Interrupted,
    MissingFile,
    NotOurFormat,
    ReadFailed,
    StoreUnreadable,
    TargetRefused,
)
from blockdiff.formats import BYTES_OF_DIGEST, FormatError, TornError, difffile
from blockdiff.sets import digests
from blockdiff.target import precheck
from blockdiff.target.state import DEVICE, FILE, TargetState
from blockdiff.target.writer import Target

_PIECE = 1024 * 1024  # bytes read at a time
_LEAST = 256 * 1024  # bytes of records that are taken at once, but for the last ones
_COMPRESSED = {
    b"\x1f\x8b\x08": "gzip; pipe it through gunzip -c",
    b"\x28\xb5\x2f": "Zstandard; pipe it through zstd -dc",
    b"\x89LZ": "lzop; pipe it through lzop -dc",
}
STREAM = "the diff on standard input"


@dataclass
class Patched:
    """What a patch did."""

    target: str
    records: int = 0
    size: int | None = None  # bytes that the target has now, or the volume where it is known
    proved: bool = False  # every block of the target has its digest
    notes: list[str] = field(default_factory=list)


def patch(
    read: Callable[[int], bytes],
    target_path: str,
    *,
    digests_path: str | None = None,
    threads: int = 2,
    look: Callable[..., TargetState] = precheck.look,
) -> Patched:
    """Write the records of a diff file's plain payload to the target, which is made if it is not there.

    `read` gives up to so many bytes of the payload, b"" at its end.  Raises DamagedFile,
    NotOurFormat, DigestMismatch, ReadFailed, StoreUnreadable, TargetRefused or TargetFailed; what was
    written until then stays.
    """
    read = functools.partial(_read, read)
    seen = look(target_path)
    both = seen.kind == FILE and digests_path and os.path.exists(digests_path)
    if both and os.path.samefile(target_path, digests_path or ""):
        raise TargetRefused(target_path, "it is the digest file of --digests")
    precheck.check(seen, 0, patch=True)
    first = b""
    while len(first) < difffile.HEADER_SIZE and (data := read(_PIECE)):
        first += data
    head = first[: difffile.HEADER_SIZE]
    try:
        block_size = difffile.decode_header(head)
    except TornError as error:
        raise DamagedFile(STREAM, error) from None
    except FormatError as error:
        raise NotOurFormat(STREAM, _or_compressed(head, error)) from None
    with contextlib.ExitStack() as stack:
        known = stack.enter_context(_digests(digests_path, block_size)) if digests_path else None
        if known is not None:
            precheck.check(seen, (known.count - 1) * block_size + 1, patch=True)
        sink = stack.enter_context(Target(seen))
        work = _Patch(sink, seen.size, block_size, known)
        try:
            _take_all(work, read, first)
            work.finish(threads)
        except (BlockdiffError, Interrupted) as error:
            if sink.created:
                error.hint = "; ".join(filter(None, (error.hint, sink.left())))
            raise
    return work.done


def _read(read: Callable[[int], bytes], size: int) -> bytes:
    try:
        return read(size)
    except OSError as error:
        raise ReadFailed(STREAM, error.strerror) from None


def _take_all(work: "_Patch", read: Callable[[int], bytes], first: bytes) -> None:
    """Write every record of the stream, whose beginning was read already.  Raises BlockdiffError."""
    try:
        for payload, last in _payloads(read, first):
            work.take(payload, last)
    except TornError as error:
        raise DamagedFile(STREAM, error) from None
    except FormatError as error:
        what = error if work.done.records else _or_compressed(first[: difffile.HEADER_SIZE], error)
        raise NotOurFormat(STREAM, what) from None


def _or_compressed(head: bytes, error: FormatError) -> str:
    kind = _COMPRESSED.get(head[:3])
    return f"it is compressed with {kind}" if kind else str(error)


def _payloads(read: Callable[[int], bytes], first: bytes) -> Iterator[tuple[bytes, bool]]:
    """Yield whole records, and whether they are the last ones.  Raises FormatError."""
    decoder = difffile.Decoder()
    data = first
    while data:
        decoder.feed(data)
        payload = decoder.take(_LEAST)
        if payload:
            yield payload, False
        data = read(_PIECE)
    yield decoder.close(), True


def _digests(path: str, block_size: int) -> digests.Digests:
    try:
        found, known = digests.open_digests(path)
    except MissingFile:  # it is not a file of a set
        raise StoreUnreadable(path, os.strerror(errno.ENOENT)) from None
    if found != block_size:
        known.close()
        raise NotOurFormat(path, f"its blocks have {found} bytes, those of the diff {block_size}")
    return known


@dataclass(frozen=True)
class _Stretch:
    """Neighbouring blocks of the target."""

    first: int
    stop: int
    cost: int  # bytes


class _Patch:
    """The state of one patch."""

    def __init__(self, sink: Target, end: int, block_size: int, known: digests.Digests | None) -> None:
        """`end`: bytes of the target now."""
        self._sink, self._end, self._block_size = sink, end, block_size
        self._device = sink.kind == DEVICE
        self._known = known
        self._proof = BlockChecker(known, block_size) if known is not None else None
        self._window = known.window() if known is not None else None
        self._zeros = bytes(block_size)
        self._previous = -1
        self._last_length: int | None = None  # bytes of the volume's last block, where its record came
        self.done = Patched(sink.path)

    def take(self, payload: bytes, last: bool) -> None:
        """Write these records.  Raises FormatError for an impossible record, and what Target raises."""
        view = memoryview(payload)
        begin = after = 0  # blocks of `parts`, which are not written yet
        parts: list[memoryview] = []
        digests = self._digests(view)
        try:
            for index, start, end in difffile.split(payload, self._block_size, last):
                self._check(index, view[start:end], next(digests, b""))
                self.done.records += 1
                if index != after or payload.startswith(self._zeros, start, end):
                    self._write(begin, parts)
                    begin = after = index
                if payload.startswith(self._zeros, start, end):
                    self._sink.zero(index * self._block_size, end - start)
                    begin = after = index + 1
                else:
                    parts.append(view[start:end])
                    after = index + 1
                if not self._device:
                    self._end = max(self._end, index * self._block_size + end - start)
        finally:
            self._write(begin, parts)

    def _digests(self, records: memoryview) -> Iterator[bytes]:
        """Yield the MD5 of each record's block, where there are digests to compare with."""
        if self._known is None:
            return
        step = difffile.OFFSET_SIZE + self._block_size
        whole, rest = divmod(len(records), step)
        found = md5_many(records[difffile.OFFSET_SIZE :], step, self._block_size, whole)
        if rest > difffile.OFFSET_SIZE:
            short = rest - difffile.OFFSET_SIZE
            found += md5_many(records[-short:], step, short, 1)
        for place in range(0, len(found), BYTES_OF_DIGEST):
            yield found[place : place + BYTES_OF_DIGEST]

    def _write(self, begin: int, parts: list[memoryview]) -> None:
        if parts:
            self._sink.write(begin * self._block_size, parts)
            parts.clear()

    def _check(self, index: int, block: memoryview, digest: bytes) -> None:
        offset = index * self._block_size
        if index <= self._previous:
            raise FormatError(f"the record of offset {offset} is out of order")
        if offset > self._end:
            raise FormatError(
                f"offset {offset} is beyond the target's end, which is at {self._end}: an earlier version is missing"
            )
        self._previous = index
        if self._window is not None and self._known is not None:
            if index >= self._known.count:
                raise FormatError(f"offset {offset} is beyond the volume, which has {self._known.count} blocks")
            if digest != self._window.of(index):
                raise DigestMismatch(STREAM, f"the block at offset {offset} does not have its digest")
            if index == self._known.count - 1:
                self._last_length = len(block)
        elif len(block) < self._block_size and not self._device and offset + len(block) < self._end:
            raise TornError(
                f"it ends inside the block at offset {offset}, where the target continues;"
                " if the volume shrank, --digests proves it"
            )

    def finish(self, threads: int) -> None:
        """Prove the target where there are digests, and complete it.  Raises BlockdiffError."""
        size = self._end
        if self._known is not None:
            size = self._size(self._known.count)
            self._sink.resize(size)
            with ThreadPoolExecutor(threads, thread_name_prefix="prove") as pool:
                rows = parallel.in_order(pool, self._stretches(size), self._prove)
                with contextlib.closing(rows):
                    for _, wrong in rows:
                        if wrong is not None:
                            what = f"the block at offset {wrong} does not have its digest"
                            raise DigestMismatch(self._sink.written_path, what)
            self.done.proved = True
        rest = self._end - size
        if self._device and self._known is not None and rest > 0:
            self.done.notes.append(f"{self._sink.path} is larger: its last {rest} bytes are left as they were")
        self.done.size = size
        self._sink.finish(size)

    def _size(self, count: int) -> int:
        """Return the size of a volume of so many blocks, in bytes."""
        if not count:
            return 0
        before = (count - 1) * self._block_size
        if self._last_length is not None:
            return before + self._last_length
        # no record of the last block: its length is unchanged
        return before + max(0, min(self._block_size, self._end - before))

    def _stretches(self, size: int) -> Iterator[_Stretch]:
        assert self._known is not None
        many = max(1, 2 * _PIECE // self._block_size)
        for first in range(0, self._known.count, many):
            stop = min(first + many, self._known.count)
            yield _Stretch(first, stop, max(1, min(stop * self._block_size, size) - first * self._block_size))

    def _prove(self, stretch: _Stretch) -> int | None:
        """Return the offset of the first block that does not have its digest, in bytes."""
        assert self._known is not None and self._proof is not None
        size = self._size(self._known.count)
        window = self._known.window()
        begin = stretch.first * self._block_size
        data = self._sink.read(begin, min(stretch.stop * self._block_size, size) - begin)
        spans: list[tuple[int, int]] = []  # of the blocks that are to be compared, and with what
        expected: list[bytes] = []
        for index in range(stretch.first, stretch.stop):
            place = index * self._block_size - begin
            end = min(place + self._block_size, len(data))
            want = window.of(index)
            if not self._proof.is_zero(data, place, end, want):
                spans.append((place, end))
                expected.append(want)
        for (place, _), digest, want in zip(spans, md5_of(data, spans, self._block_size), expected, strict=True):
            if digest != want:
                return begin + place
        return None
