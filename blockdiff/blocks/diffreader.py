"""The records of one version's diff file, in pieces that a pool of threads can work on.

With an index, a piece is one compressed member.  Each thread decompresses its own, damage
in one does not affect another, and a member without a wanted block is not read.
Without an index the file is read from its start: zstd frames are found by their headers,
plain records by arithmetic.  gzip and lzop must be decompressed in order, and only the
check of the blocks is parallel.  The result is the same either way.

No member that blockdiff writes is too large to be decompressed at once.  Earlier releases
wrote larger ones where single blocks of a large volume had become zeros, and other programs
write them.  They are read as streams, with an index or without.
Format: blockdiff-formats(5), "Diff file", "Members", "Index".
"""

import contextlib
import functools
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType

from blockdiff import codecs
from blockdiff.blocks.blockset import Run
from blockdiff.codecs import base
from blockdiff.codecs.base import Payload, Read
from blockdiff.errors import BlockdiffError, DamagedFile, DigestMismatch
from blockdiff.formats import FormatError, TornError, difffile, digestfile, index
from blockdiff.place.base import Opener, Sequence
from blockdiff.place.folder import open_file
from blockdiff.sets.version import Version

_STREAM_PIECE = 2 * 1024 * 1024  # bytes of payload in a piece of a stream, unless one record is larger
_NO_BLOCKS = (0, 0)  # of our first member: it has the header alone


@dataclass
class Piece:
    """Some records, not decompressed yet."""

    place: int  # bytes; in the diff file where `stored` or `part`, else in the payload
    data: bytes
    length: int  # bytes of payload
    stored: bool  # data is a compressed member
    skip: int = 0  # bytes of payload before its first record
    run: Run | None = None  # all its blocks are among these; None without an index
    zeros: Run | None = None  # it is these blocks and all are zero; never to be decompressed
    read: int = 0  # bytes of the diff file that were read for it, approximately; for progress
    part: bool = False  # data is only some of its member's payload
    failure: FormatError | None = None  # why it could not be read

    @property
    def cost(self) -> int:
        """Bytes of memory that it takes while it is worked on."""
        return 0 if self.zeros else len(self.data) + (self.length if self.stored else 0)

    @property
    def where(self) -> str:
        """Where in the file it is, for a person."""
        return f"member at byte {self.place}" if self.stored or self.part else f"payload at byte {self.place}"


class DiffFile:
    """One version's diff file, open for reading; use it as a context manager."""

    def __init__(
        self,
        path: str,
        index_path: str | None,
        version: Version,
        observe: Callable[[bytes], object] | None = None,
        most: int | None = None,
        opener: Opener = open_file,
    ) -> None:
        """`index_path`: the file's index, None if there is none that counts.

        `observe` gets every byte of the file in order.  `most`: bytes of payload that are decompressed
        at once; a larger member comes in parts.  `opener`: see VersionFiles.open.  Raises OSError.
        """
        self._most = base.MAX_MEMBER if most is None else most
        self.version, self.path = version, path
        self.codec = codecs.BY_SUFFIX[version.suffix]
        self._index_path = index_path
        self._observe = observe
        self._place = 0  # bytes; up to here the file was read
        self.read = 0  # bytes of it that were read
        self.skipped = False  # a part could not be read, but parts after it were
        self._open = opener
        self._blob = opener(self.path)
        self.size = self._blob.size  # bytes
        self._blob.in_order()

    def __enter__(self) -> "DiffFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._blob.close()

    def _read(self, size: int) -> bytes:
        """Return up to size bytes from the current position; fewer only at the file's end."""
        data = self._blob.pread(size, self._place)
        self._place += len(data)
        self.read += len(data)
        if self._observe is not None:
            self._observe(data)
        return data

    def drain(self) -> None:
        """Read the rest of the file for `observe`.  Raises OSError."""
        while self._read(_STREAM_PIECE):
            pass

    def pieces(self, wants: Callable[[int, int], bool] | None = None) -> Iterator[Piece]:
        """Yield the file's records; a member without a block that `wants` (first, stop) may be left out.

        Raises FormatError, or OSError, where the rest of the file cannot be read.
        """
        if self._index_path is not None:
            return self._members(self._index_path, wants)
        if isinstance(self.codec, codecs.Plain):
            return self._plain()
        if isinstance(self.codec, codecs.Zstd):
            return self._frames(self.codec)
        return self._stream()

    def payload(self, piece: Piece) -> Payload:
        """Return a piece's payload.  Raises FormatError if the member does not have it.  For any thread."""
        if piece.failure:
            raise piece.failure
        data = self.codec.decompress(piece.data, piece.length) if piece.stored else piece.data
        if piece.skip:
            self._check_header(bytes(data[: piece.skip]))
        return data

    def _check_header(self, header: bytes) -> None:
        found = difffile.decode_header(header)
        if found != self.version.block_size:
            raise FormatError(f"block size is {found}, in the digest file it is {self.version.block_size}")

    def _zeros(self, member: bytes) -> Run | None:
        run = self.codec.zero_run(member, self.version.block_size)
        if run is None or run[0] + run[1] > self.version.count:
            return None
        first, stop = run[0], run[0] + run[1]
        if stop == self.version.count and (self.version.size or 0) % self.version.block_size:
            return None  # the last block is short, and this one is whole
        return first, stop

    def _members(self, index_path: str, wants: Callable[[int, int], bool] | None) -> Iterator[Piece]:
        with contextlib.closing(self._open(index_path)) as blob:
            if wants is not None:
                self._blob.expect(index.places(Sequence(blob).read, blob.size, self.version.block_size, wants))
            end = 0
            for member, stored, length in index.spans(Sequence(blob).read, blob.size, self.version.block_size):
                end = member.place + stored
                first, stop = member.first, min(member.last + 1, self.version.count)
                if wants is not None and not wants(first, stop):
                    self._place = end
                    continue
                piece = Piece(member.place, b"", length, True, run=(first, stop), read=stored)
                piece.skip = 0 if member.place else difffile.HEADER_SIZE
                large = length > self._most or stored > base.MAX_STORED
                self._place = member.place
                try:
                    piece.data = self._read(min(stored, _STREAM_PIECE) if large else stored)
                except OSError as error:
                    piece.failure = self._unread(error)
                if len(piece.data) < stored and not piece.failure and not large:
                    piece.failure = TornError("the file ends " + ("inside it" if piece.data else "before it"))
                if length == piece.skip:
                    piece.run = _NO_BLOCKS
                if len(piece.data) == stored and not piece.skip:
                    piece.zeros = self._zeros(piece.data)
                if large and not piece.zeros and not piece.failure:
                    yield from self._parts(piece, _measured(self.codec.stream(self._after(piece.data, end)), length))
                else:
                    yield piece
        if wants is None and self._place == end:
            rest = 0
            while data := self._read(_STREAM_PIECE):
                rest += len(data)
            if rest:
                raise FormatError(f"{rest} bytes follow the last member")

    def _plain(self) -> Iterator[Piece]:
        header = self._read(difffile.HEADER_SIZE)
        self._check_header(header)
        step = difffile.OFFSET_SIZE + self.version.block_size
        group = max(1, base.MEMBER_SIZE // step) * step
        place = difffile.HEADER_SIZE
        while data := self._read(group):
            yield Piece(place, data, len(data), False, read=len(data))
            place += len(data)

    def _frames(self, codec: codecs.Zstd) -> Iterator[Piece]:
        seen = False
        for frame in codec.frames(self._read):
            piece = Piece(frame.place, frame.data, frame.length or 0, True, read=len(frame.data))
            piece.skip = 0 if seen else difffile.HEADER_SIZE
            piece.zeros = self._zeros(frame.data) if frame.data and seen else None
            if frame.length == piece.skip:
                piece.run = _NO_BLOCKS
            if (frame.small and piece.length <= self._most) or piece.zeros:
                yield piece
            else:
                yield from self._parts(piece, codec.unpack(frame))
            seen = True
        if not seen:
            raise TornError("zstd file is empty")

    def _unread(self, error: OSError) -> FormatError:
        self.skipped = True
        return TornError(f"cannot be read: {error.strerror}")

    def _after(self, data: bytes, end: int) -> Read:
        """Return a function that reads up to `end`, a place in the file, beginning with data already read."""
        rest = io.BytesIO(data)
        return lambda size: rest.read(size) or self._read(min(size, end - self._place))

    def _stream(self) -> Iterator[Piece]:
        place, seen = difffile.HEADER_SIZE, 0  # bytes of payload, and of the file, that are in pieces
        for payload in self._records(self.codec.stream(self._read), header=True):
            read, seen = self._place - seen, self._place
            yield Piece(place, payload, len(payload), False, read=read)
            place += len(payload)

    def _parts(self, member: Piece, payload: Iterator[bytes]) -> Iterator[Piece]:
        """Yield a member whose payload comes in pieces; damage does not affect other members."""
        part = functools.partial(Piece, member.place, stored=False, run=member.run, part=True)
        seen = member.place
        try:
            for records in self._records(payload, header=bool(member.skip)):
                read, seen = self._place - seen, self._place
                yield part(data=records, length=len(records), read=read)
        except FormatError as error:
            yield part(data=b"", length=0, failure=error)
        except OSError as error:
            yield part(data=b"", length=0, failure=self._unread(error))

    def _records(self, parts: Iterator[bytes], header: bool) -> Iterator[bytes]:
        """Yield whole records of a payload that comes in parts, `header`: with the block size before them.

        Whole records before damage are yielded, and each is checked: the error is raised after them.
        """
        decoder = difffile.Decoder()
        least = max(_STREAM_PIECE, difffile.OFFSET_SIZE + self.version.block_size + 1)
        decoder.block_size = None if header else self.version.block_size
        checked = not header
        failure: FormatError | OSError | None = None
        try:
            for part in parts:
                decoder.feed(part)
                payload = decoder.take(least if checked else 1)
                if not checked and decoder.block_size is not None:
                    self._check_header(difffile.encode_header(decoder.block_size))
                    checked = True
                if payload:
                    yield payload
        except (FormatError, OSError) as error:
            failure = error
        payload = (decoder.take() if checked else b"") if failure else decoder.close()
        if not failure and not checked:
            self._check_header(difffile.encode_header(decoder.block_size or 0))
        if payload:
            yield payload
        if failure:
            raise failure


def _measured(parts: Iterator[bytes], length: int) -> Iterator[bytes]:
    """Yield a payload's parts; raises FormatError unless it has `length` bytes."""
    total = 0
    for part in parts:
        total += len(part)
        if total > length:
            break
        yield part
    if total != length:
        raise FormatError(f"member does not have the {length} bytes expected")


def whole_blocks(version: Version, runs: Run) -> tuple[int, int]:
    """Return where a run of blocks begins and ends in the volume, in bytes; the end is the volume's at most."""
    end = runs[1] * version.block_size
    return runs[0] * version.block_size, end if version.size is None else min(end, version.size)


def last_length(version: Version) -> int | None:
    """Return the length of the volume's last block in bytes, None if only its record has it."""
    if version.size is None or not version.count:
        return None
    return digestfile.length_of(version.count - 1, version.size, version.block_size)


def damage(what: str, error: FormatError) -> BlockdiffError:
    """Return the error for damaged bytes of a file."""
    return DamagedFile(what, error) if isinstance(error, TornError) else DigestMismatch(what, error)
