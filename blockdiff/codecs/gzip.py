"""NAME.N.gz: a sequence of gzip members, compressed by isal and decompressed by libdeflate.

A deflate stream may be joined from parts that end at a byte.  Data that compresses goes
through isal.  Data that does not is stored, which takes almost no time.  For a long run of
zero blocks, one compressed block is made once and repeated after each block's offset.
Formats: RFC 1952 (gzip), RFC 1951 (deflate).
"""

import contextlib
import functools
import struct
import zlib
from collections.abc import Iterator

from blockdiff.codecs.base import PIECE, Payload, Read, parse_zeros
from blockdiff.formats import Buffer, FormatError, TornError, difffile

_WBITS = 31  # a gzip header and trailer
_RAW = -15  # neither
_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\x04\xff"  # no name, no time; fastest algorithm; any system
_TRAILER = struct.Struct("<II")  # CRC-32 and length of the payload
_LAST = b"\x03\0"  # an empty block with the flag of the last one
_LENGTHS = struct.Struct("<HH")  # of a stored block: its length, and that with all bits turned
_MOST_STORED = 0xFFFF  # bytes in a stored block
_SYNC = b"\0\0\xff\xff"  # the lengths of an empty stored block, with which a piece ends
_OFFSET_LENGTHS = _LENGTHS.pack(difffile.OFFSET_SIZE, difffile.OFFSET_SIZE ^ 0xFFFF)

_SAMPLED = 8192  # bytes; shorter records are not sampled
_SAMPLE = 1024  # bytes, at one and at three quarters
_NO_USE = 1.2  # fixed codes make random data a quarter longer


class Gzip:
    """NAME.N.gz."""

    suffix = ".gz"
    _LEVEL = 1

    def compress(self, payload: Buffer, step: int = 0) -> bytes:
        from isal import isal_zlib

        view = memoryview(payload)
        out: list[Buffer] = [_HEADER]
        for some, packs in _runs(view, step):
            if packs:  # a part refers to no data before itself
                work = isal_zlib.compressobj(self._LEVEL, isal_zlib.DEFLATED, _RAW)
                out += [work.compress(some), work.flush(isal_zlib.Z_SYNC_FLUSH)]
            else:
                out += _stored(some)
        out += [_LAST, _TRAILER.pack(isal_zlib.crc32(view), len(view) & 0xFFFFFFFF)]
        return b"".join(out)

    def zeros(self, first: int, block_size: int, count: int) -> bytes | None:
        if block_size < _SAMPLED:
            return None
        zeros = _Zeros.of(block_size)
        out = [_HEADER, b"\0"]
        crc = 0
        for index in range(first, first + count):
            offset = difffile.encode_offset(index * block_size)
            # the piece before ended with the header of a stored block, whose lengths these are
            out += [_OFFSET_LENGTHS, offset, zeros.piece]
            crc = zeros.crc(zlib.crc32(offset, crc))
        out += [_SYNC, _LAST, _TRAILER.pack(crc, count * (difffile.OFFSET_SIZE + block_size) & 0xFFFFFFFF)]
        return b"".join(out)

    def zero_run(self, member: Buffer, block_size: int) -> tuple[int, int] | None:
        start = len(_HEADER) + 1 + len(_OFFSET_LENGTHS)
        behind = start + difffile.OFFSET_SIZE
        if block_size < _SAMPLED or bytes(member[len(_HEADER) + 1 : start]) != _OFFSET_LENGTHS:
            return None
        piece = _Zeros.of(block_size).piece
        if bytes(member[behind : behind + len(piece)]) != piece:
            return None
        return parse_zeros(self, member, start, _TRAILER.unpack(member[-8:])[1], block_size)

    def decompress(self, member: Buffer, length: int) -> Payload:
        import deflate

        if length:  # 0 would mean the length in the member's trailer
            with contextlib.suppress(deflate.DeflateError, ValueError):
                payload: bytearray = deflate.gzip_decompress(member, length)
                # it does not report bytes that follow; those that end like the member's own trailer are
                # accepted: the blocks are checked anyway, and a verify sees that the file has changed
                if len(payload) == length and bytes(member[-_TRAILER.size :]) == _trailer(payload):
                    return payload
        return _slowly(member, length)

    def stream(self, read: Read) -> Iterator[bytes]:
        from isal import igzip_lib, isal_zlib

        work = isal_zlib.decompressobj(_WBITS)
        data: bytes = read(PIECE)
        if not data:
            raise TornError("gzip file is empty")
        while True:
            try:
                piece = work.decompress(data, PIECE)
            except igzip_lib.IsalError as error:  # type: ignore[misc]
                raise FormatError(f"gzip stream is damaged: {error}") from None
            if piece:
                yield piece
            if work.eof:
                data = work.unused_data or read(PIECE)
                if not data:
                    return
                work = isal_zlib.decompressobj(_WBITS)
                continue
            data = work.unconsumed_tail
            if not data and len(piece) < PIECE:
                data = read(PIECE)
                if not data:
                    raise TornError("gzip stream is cut")


def _runs(view: memoryview, step: int) -> Iterator[tuple[memoryview, bool]]:
    """Yield the data that compresses and that which does not; neighbouring records of one kind are joined."""
    if step < _SAMPLED:
        yield view, True
        return
    begin, kind = 0, True
    for start in range(0, len(view), step):
        packs = _packs(view[start : start + step])
        if packs != kind:
            if begin < start:
                yield view[begin:start], kind
            begin, kind = start, packs
    yield view[begin:], kind


def _packs(part: memoryview) -> bool:
    """Return whether data compresses, by two samples."""
    from isal import igzip_lib

    quarter = len(part) // 4
    sample = b"".join(part[start : start + _SAMPLE] for start in (quarter, 3 * quarter))
    return len(igzip_lib.compress(sample, igzip_lib.ISAL_BEST_SPEED)) < _NO_USE * len(sample)


def _stored(view: memoryview) -> Iterator[Buffer]:
    for start in range(0, len(view), _MOST_STORED):
        some = view[start : start + _MOST_STORED]
        yield b"\0" + _LENGTHS.pack(len(some), len(some) ^ 0xFFFF)
        yield some


def _slowly(member: Buffer, length: int) -> bytes:
    """Return the payload of one member, or raise what is wrong with it."""
    from isal import igzip_lib, isal_zlib

    work = isal_zlib.decompressobj(_WBITS)
    try:
        payload: bytes = work.decompress(member, length + 1)
    except igzip_lib.IsalError as error:  # type: ignore[misc]
        raise FormatError(f"gzip member is damaged: {error}") from None
    if not work.eof:
        raise TornError("gzip member is cut or longer than expected")
    if len(payload) != length or work.unused_data:
        raise FormatError(f"gzip member has {len(payload)} bytes, expected {length}")
    return payload


def _trailer(payload: Payload) -> bytes:
    from isal import isal_zlib

    return _TRAILER.pack(isal_zlib.crc32(payload), len(payload) & 0xFFFFFFFF)


class _Zeros:
    """A block of zeros, compressed, and its effect on a CRC-32."""

    def __init__(self, block_size: int) -> None:
        """`block_size` in bytes."""
        from isal import isal_zlib

        zeros = bytes(block_size)
        work = zlib.compressobj(9, zlib.DEFLATED, _RAW)
        self.piece = (work.compress(zeros) + work.flush(zlib.Z_SYNC_FLUSH)).removesuffix(_SYNC)
        # CRC-32 is linear except for its first and last step: the results for single bits give all others
        self._of_zero = isal_zlib.crc32(zeros, 0)
        bits = [isal_zlib.crc32(zeros, 1 << bit) ^ self._of_zero for bit in range(32)]
        self._tables = []
        for place in range(0, 32, 8):
            table = [0]
            for bit in bits[place : place + 8]:
                table += [entry ^ bit for entry in table]
            self._tables.append(table)

    @staticmethod
    @functools.lru_cache(maxsize=4)
    def of(block_size: int) -> "_Zeros":
        """Return the one for this block size."""
        return _Zeros(block_size)

    def crc(self, value: int) -> int:
        """Return a CRC-32 after a block of zeros more."""
        one, two, three, four = self._tables
        return self._of_zero ^ one[value & 255] ^ two[value >> 8 & 255] ^ three[value >> 16 & 255] ^ four[value >> 24]
