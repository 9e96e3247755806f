"""NAME.N.zst: a sequence of Zstandard frames, each with its size.  Format: RFC 8878."""

import io
import struct
import threading
import types
from collections.abc import Iterator
from typing import Any, NamedTuple

from blockdiff.codecs import base
from blockdiff.codecs.base import PIECE, Read, parse_zeros
from blockdiff.formats import Buffer, FormatError, TornError, difffile

_local = threading.local()  # compressors are not for two threads at once
_MAGIC = b"\x28\xb5\x2f\xfd"
_BLOCK = 128 * 1024  # bytes; the most one block may hold
_RAW_BLOCK, _RLE_BLOCK = 0, 1
_MAX_WINDOW = 1 << 27  # bytes; what the program takes without being asked to take more
_MOST_BUFFERED = 4 * 1024 * 1024  # bytes of a frame without a known size; a longer one is read as a stream


def _block(kind: int, size: int, last: bool) -> bytes:
    return ((size << 3) | (kind << 1) | last).to_bytes(3, "little")


class Frame(NamedTuple):
    """A frame in a file."""

    place: int  # bytes; where it begins in the file
    data: bytes  # the whole frame; empty where it is too large for that
    length: int | None  # bytes of payload by its header; None: not known
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

    # A frame of zero blocks is made without the compressor: an offset as a raw block of 8
    # bytes, then a run-length block of 4 bytes for each 128 KiB.  So terabytes of zeros take
    # almost no time and space, and are recognised by one comparison.
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
        return parse_zeros(self, member, start, length, block_size)

    def decompress(self, member: Buffer, length: int) -> bytes:
        import zstandard

        decompressor = getattr(_local, "decompressor", None)
        if decompressor is None:
            decompressor = _local.decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
        try:
            if zstandard.frame_content_size(member) != length:
                raise FormatError(f"zstd frame does not have the {length} bytes expected")
            payload: bytes = decompressor.decompress(member, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise FormatError(f"zstd frame is damaged: {error}") from None
        if len(payload) != length:
            raise FormatError(f"zstd frame has {len(payload)} bytes, expected {length}")
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

    def unpack(self, frame: Frame, size: int = PIECE) -> Iterator[bytes]:
        """Yield a frame's payload in pieces of up to size bytes, however large it is.  Raises FormatError."""
        import zstandard

        source: Any = types.SimpleNamespace(read=frame.read)
        reader = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW).stream_reader(source, read_size=64 * 1024)
        length = 0
        try:
            while piece := reader.read(size):
                length += len(piece)
                yield piece
        except zstandard.ZstdError as error:
            raise FormatError(f"zstd frame is damaged: {error}") from None
        if frame.length not in (None, length):
            raise FormatError(f"zstd frame has {length} bytes, expected {frame.length}")

    def frames(self, read: Read) -> Iterator[Frame]:
        """Yield each frame of a file, found by its block headers; nothing is decompressed.

        A frame that is not whole must be read before the next one is requested.  Raises FormatError.
        """
        scan = _FrameScan(read)
        while scan.begins():
            length = scan.length
            small = length is not None and length <= base.MAX_MEMBER
            if scan.ends(base.MAX_STORED if small else _MOST_BUFFERED):
                begin, whole = scan.begin, scan.read(scan.place)
                yield Frame(begin, whole, length, io.BytesIO(whole).read)
            elif small:
                raise FormatError("zstd block is damaged")
            else:
                yield Frame(scan.begin, b"", length, scan.read)
                while scan.read(PIECE):
                    pass


class _FrameScan:
    """Reads a file of frames from block to block, without decompressing them."""

    def __init__(self, read: Read) -> None:
        self._more = read
        self._buffer = bytearray()
        self.begin = 0  # bytes; position of the buffer in the file
        self.place = 0  # bytes of the buffer that are known to be of the frame
        self.length: int | None = None  # bytes of payload by the frame's header
        self._checksum = 0  # bytes after its last block
        self._last = True  # its last block is known

    def _fill(self, size: int) -> None:
        while len(self._buffer) < size:
            data = self._more(PIECE)
            if not data:
                raise TornError("zstd stream is cut")
            self._buffer.extend(data)

    def begins(self) -> bool:
        """Read the next frame's header; return whether there is one."""
        if not self._buffer:
            self._buffer.extend(self._more(PIECE))
            if not self._buffer:
                return False
        self._fill(5)
        if bytes(self._buffer[:4]) != _MAGIC:
            raise FormatError("not a zstd frame")
        flags = self._buffer[4]
        single = flags >> 5 & 1
        size = (single, 2, 4, 8)[flags >> 6]
        start = 5 + (not single) + (0, 1, 2, 4)[flags & 3]
        self.place, self._last, self._checksum = start + size, False, 4 if flags & 4 else 0
        self._fill(self.place)
        content = int.from_bytes(self._buffer[start : self.place], "little")
        self.length = (content + 256 if size == 2 else content) if size else None
        return True

    def ends(self, most: int) -> bool:
        """Read on until about `most` bytes of the frame are known; return whether its end is."""
        while not self._last and self.place <= most:
            self._fill(self.place + 3)
            block = int.from_bytes(self._buffer[self.place : self.place + 3], "little")
            kind, size = block >> 1 & 3, block >> 3
            if kind == 3:
                raise FormatError("zstd block is damaged")
            self._last = bool(block & 1)
            self.place += 3 + (1 if kind == _RLE_BLOCK else size) + (self._checksum if self._last else 0)
        return self._last

    def read(self, size: int) -> bytes:
        """Return up to `size` of the frame's next bytes, b"" at its end."""
        self.ends(size)
        size = min(size, self.place)
        self._fill(size)
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        self.begin += size
        self.place -= size
        return data
