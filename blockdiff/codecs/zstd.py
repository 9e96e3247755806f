"""NAME.N.zst: a row of Zstandard frames, each with its size.  Format: RFC 8878."""

import io
import struct
import threading
import types
from collections.abc import Iterator
from typing import Any, NamedTuple

from blockdiff.codecs import base
from blockdiff.codecs.base import PIECE, Buffer, Read, said_zeros
from blockdiff.formats import FormatError, TornError, difffile

_local = threading.local()  # compressors are not for two threads at once
_MAGIC = b"\x28\xb5\x2f\xfd"
_BLOCK = 128 * 1024  # bytes; the most one block may hold
_RAW_BLOCK, _RLE_BLOCK = 0, 1
_MAX_WINDOW = 1 << 27  # bytes; what the program takes without being asked to take more
_MOST_HELD = 4 * 1024 * 1024  # bytes of a frame that is read as a stream; smaller ones are whole all the same


def _block(kind: int, size: int, last: bool) -> bytes:
    return ((size << 3) | (kind << 1) | last).to_bytes(3, "little")


class Frame(NamedTuple):
    """A frame as it lies in a file."""

    place: int  # bytes; where it begins in the file
    data: bytes  # the whole frame; empty where it is too large for that
    length: int | None  # bytes of payload that it says it holds
    read: Read  # gives the whole frame, however large it is

    @property
    def small(self) -> bool:
        """Whether its payload may be decompressed at once."""
        return bool(self.data) and self.length is not None and self.length <= base.MAX_MEMBER


class Zstd:
    """NAME.N.zst."""

    suffix = ".zst"
    _LEVEL = 2

    def compress(self, payload: Buffer, step: int = 0) -> bytes:
        import zstandard

        compressor = getattr(_local, "compressor", None)
        if compressor is None:
            compressor = _local.compressor = zstandard.ZstdCompressor(level=self._LEVEL)
        frame: bytes = compressor.compress(payload)
        return frame

    # A frame of zero blocks is written out by hand: an offset as a raw block of 8 bytes,
    # then run-length blocks of 4 bytes for each 128 KiB.  So terabytes of holes cost
    # neither time nor room, and reading them back is one comparison.
    _ZERO_HEADER = _MAGIC + b"\x80\x38"  # 4 bytes of content size; window 128 KiB

    def zeros(self, first: int, block_size: int, count: int) -> bytes | None:
        whole, rest = divmod(block_size, _BLOCK)
        run = (_block(_RLE_BLOCK, _BLOCK, False) + b"\0") * whole
        if rest:
            run += _block(_RLE_BLOCK, rest, False) + b"\0"
        raw = _block(_RAW_BLOCK, difffile.OFFSET_SIZE, False)
        out = [self._ZERO_HEADER, struct.pack("<I", count * (difffile.OFFSET_SIZE + block_size))]
        for index in range(first, first + count):
            out += [raw, difffile.encode_offset(index * block_size), run]
        out.append(_block(_RAW_BLOCK, 0, True))
        return b"".join(out)

    def zero_run(self, member: Buffer, block_size: int) -> tuple[int, int] | None:
        head = len(self._ZERO_HEADER)
        start = head + 4 + 3
        if bytes(member[:head]) != self._ZERO_HEADER or len(member) < start + difffile.OFFSET_SIZE:
            return None
        (length,) = struct.unpack_from("<I", member, head)
        return said_zeros(self, member, start, length, block_size)

    def decompress(self, member: Buffer, length: int) -> bytes:
        import zstandard

        decompressor = getattr(_local, "decompressor", None)
        if decompressor is None:
            decompressor = _local.decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
        try:
            if zstandard.frame_content_size(member) != length:
                raise FormatError(f"zstd frame does not hold the {length} bytes expected")
            payload: bytes = decompressor.decompress(member, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise FormatError(f"zstd frame is damaged: {error}") from None
        if len(payload) != length:
            raise FormatError(f"zstd frame holds {len(payload)} bytes, expected {length}")
        return payload

    def stream(self, read: Read) -> Iterator[bytes]:
        seen = False
        for frame in self.frames(read):
            seen = True
            if frame.small:
                yield self.decompress(frame.data, frame.length or 0)
            else:
                yield from self.unpack(frame)
        if not seen:
            raise TornError("zstd file is empty")

    def unpack(self, frame: Frame) -> Iterator[bytes]:
        """Yield a frame's payload in pieces, however large it is.  Raises FormatError."""
        import zstandard

        source: Any = types.SimpleNamespace(read=frame.read)
        reader = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW).stream_reader(source, read_size=64 * 1024)
        length = 0
        try:
            while piece := reader.read(PIECE):
                length += len(piece)
                yield piece
        except zstandard.ZstdError as error:
            raise FormatError(f"zstd frame is damaged: {error}") from None
        if frame.length not in (None, length):
            raise FormatError(f"zstd frame holds {length} bytes, expected {frame.length}")

    def frames(self, read: Read) -> Iterator[Frame]:
        """Yield each frame of a file, found by its block headers; nothing is decompressed.

        One that is not whole must be read before the next is asked for.  Raises FormatError.
        """
        walk = _Walk(read)
        while walk.begins():
            length = walk.length
            small = length is not None and length <= base.MAX_MEMBER
            if walk.ends(base.MAX_STORED if small else _MOST_HELD):
                begin, whole = walk.begin, walk.read(walk.place)
                yield Frame(begin, whole, length, io.BytesIO(whole).read)
            elif small:
                raise FormatError("zstd block is damaged")
            else:
                yield Frame(walk.begin, b"", length, walk.read)
                while walk.read(PIECE):
                    pass


class _Walk:
    """A walk through a file of frames, from block to block."""

    def __init__(self, read: Read) -> None:
        self._more = read
        self._held = bytearray()
        self.begin = 0  # bytes; where in the file what is held begins
        self.place = 0  # bytes; up to where in what is held the frame is known
        self.length: int | None = None  # bytes of payload that the frame says it holds
        self._checksum = 0  # bytes behind its last block
        self._last = True  # its last block is known

    def _fill(self, size: int) -> None:
        while len(self._held) < size:
            data = self._more(PIECE)
            if not data:
                raise TornError("zstd stream is cut")
            self._held.extend(data)

    def begins(self) -> bool:
        """Walk over the next frame's header; tell whether there is one."""
        if not self._held:
            self._held.extend(self._more(PIECE))
            if not self._held:
                return False
        self._fill(5)
        if bytes(self._held[:4]) != _MAGIC:
            raise FormatError("not a zstd frame")
        flags = self._held[4]
        single = flags >> 5 & 1
        size = (single, 2, 4, 8)[flags >> 6]
        start = 5 + (not single) + (0, 1, 2, 4)[flags & 3]
        self.place, self._last, self._checksum = start + size, False, 4 if flags & 4 else 0
        self._fill(self.place)
        said = int.from_bytes(self._held[start : self.place], "little")
        self.length = (said + 256 if size == 2 else said) if size else None
        return True

    def ends(self, most: int) -> bool:
        """Walk on until about so many bytes of the frame are known; tell whether it ends before."""
        while not self._last and self.place <= most:
            self._fill(self.place + 3)
            block = int.from_bytes(self._held[self.place : self.place + 3], "little")
            kind, size = block >> 1 & 3, block >> 3
            if kind == 3:
                raise FormatError("zstd block is damaged")
            self._last = bool(block & 1)
            self.place += 3 + (1 if kind == _RLE_BLOCK else size) + (self._checksum if self._last else 0)
        return self._last

    def read(self, size: int) -> bytes:
        """Return up to so many of the frame's next bytes, b"" at its end."""
        self.ends(size)
        size = min(size, self.place)
        self._fill(size)
        data = bytes(self._held[:size])
        del self._held[:size]
        self.begin += size
        self.place -= size
        return data
