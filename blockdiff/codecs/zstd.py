"""NAME.N.zst: a row of Zstandard frames, each with its size.  Format: RFC 8878."""

import struct
import threading
from collections.abc import Iterator

from blockdiff.codecs.base import PIECE, Buffer, Read, said_zeros
from blockdiff.formats import FormatError, TornError, difffile

_local = threading.local()  # compressors are not for two threads at once
_MAGIC = b"\x28\xb5\x2f\xfd"
_BLOCK = 128 * 1024  # bytes; the most one block may hold
_RAW_BLOCK, _RLE_BLOCK = 0, 1
_MAX_FRAME = 64 * 1024 * 1024  # bytes of payload; we write far less


def _block(kind: int, size: int, last: bool) -> bytes:
    return ((size << 3) | (kind << 1) | last).to_bytes(3, "little")


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
            decompressor = _local.decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 27)
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
            length = self.length(frame)
            if length > _MAX_FRAME:
                raise FormatError(f"zstd frame of {length} bytes is larger than any of ours")
            yield self.decompress(frame, length)
        if not seen:
            raise TornError("zstd file is empty")

    def length(self, frame: Buffer) -> int:
        """Return how many bytes of payload a frame says it holds.  Raises FormatError if it does not say."""
        import zstandard

        try:
            length = int(zstandard.frame_content_size(frame))
        except zstandard.ZstdError as error:
            raise FormatError(f"zstd frame is damaged: {error}") from None
        if length < 0:
            raise FormatError("zstd frame does not say its size")
        return length

    def frames(self, read: Read) -> Iterator[bytes]:
        """Yield each frame of a file, found by its block headers; nothing is decompressed."""
        held = bytearray()

        def fill(size: int) -> None:
            while len(held) < size:
                data = read(PIECE)
                if not data:
                    raise TornError("zstd stream is cut")
                held.extend(data)

        while True:
            if not held:
                held.extend(read(PIECE))
                if not held:
                    return
            fill(5)
            if bytes(held[:4]) != _MAGIC:
                raise FormatError("not a zstd frame")
            flags = held[4]
            single = flags >> 5 & 1
            size_bytes = (single, 2, 4, 8)[flags >> 6]
            place = 5 + (not single) + (0, 1, 2, 4)[flags & 3] + size_bytes
            last = False
            while not last:
                fill(place + 3)
                block = int.from_bytes(held[place : place + 3], "little")
                last = bool(block & 1)
                kind, size = block >> 1 & 3, block >> 3
                if kind == 3 or place > 2 * _MAX_FRAME:
                    raise FormatError("zstd block is damaged")
                place += 3 + (1 if kind == _RLE_BLOCK else size)
            place += 4 if flags & 4 else 0
            fill(place)
            frame = bytes(held[:place])
            del held[:place]
            yield frame
