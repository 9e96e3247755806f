"""Compression of diff files, one member at a time, and of what comes over the wire.

A diff file is a row of members, each compressed on its own: gzip members (isal) or
Zstandard frames.  `gunzip` and `zstd -d` read such a file as one stream, while we
compress and decompress many at once and reach any block.  The original's files are one
long member; they are read as a stream.  Every output is bounded before memory is spent.
Format: blockdiff-formats(5), "Members"; RFC 1952 (gzip); RFC 8878 (Zstandard).
"""

import contextlib
import struct
import subprocess
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from blockdiff.errors import CommandFailed, ProgramMissing
from blockdiff.formats import FormatError, TornError, difffile, messages

Buffer = bytes | bytearray | memoryview
Read = Callable[[int], bytes]  # up to so many bytes, b"" at the end

MEMBER_SIZE = 4 * 1024 * 1024  # bytes of payload in a member, unless one record is larger
_PIECE = 1024 * 1024  # bytes of payload that a stream yields at most at a time
_local = threading.local()  # compressors are not for two threads at once


class Codec(Protocol):
    """One kind of diff file."""

    suffix: str  # of the diff file

    def compress(self, parts: Sequence[Buffer]) -> bytes:
        """Return one member that holds the parts joined."""

    def zeros(self, prefix: bytes, first: int, block_size: int, count: int) -> bytes | None:
        """Return a member of `count` zero blocks from block `first` on, without compressing them.

        The payload begins with prefix.  None where this codec has no such shortcut.
        """

    def zero_run(self, member: Buffer, prefix: int, block_size: int) -> tuple[int, int] | None:
        """Return (first, count) if member is exactly what `zeros` makes after `prefix` bytes, else None."""

    def decompress(self, member: Buffer, length: int) -> bytes:
        """Return the payload of one member, exactly length bytes.  Raises FormatError."""

    def stream(self, read: Read) -> Iterator[bytes]:
        """Yield the whole file's payload in pieces.  Raises FormatError, TornError for a cut one."""


class Plain:
    """NAME.N: nothing is compressed."""

    suffix = ""

    def compress(self, parts: Sequence[Buffer]) -> bytes:
        return b"".join(parts)

    def zeros(self, prefix: bytes, first: int, block_size: int, count: int) -> bytes | None:
        return None

    def zero_run(self, member: Buffer, prefix: int, block_size: int) -> tuple[int, int] | None:
        return None

    def decompress(self, member: Buffer, length: int) -> bytes:
        if len(member) != length:
            raise TornError(f"member is {len(member)} bytes, expected {length}")
        return bytes(member)

    def stream(self, read: Read) -> Iterator[bytes]:
        while piece := read(_PIECE):
            yield piece


class Gzip:
    """NAME.N.gz, by isal: several times as fast as zlib at the same size."""

    suffix = ".gz"
    _LEVEL = 1
    _WBITS = 31  # a gzip header and trailer

    def compress(self, parts: Sequence[Buffer]) -> bytes:
        from isal import isal_zlib

        work = isal_zlib.compressobj(self._LEVEL, isal_zlib.DEFLATED, self._WBITS)
        out = [work.compress(part) for part in parts]
        out.append(work.flush())
        return b"".join(out)

    def zeros(self, prefix: bytes, first: int, block_size: int, count: int) -> bytes | None:
        return None

    def zero_run(self, member: Buffer, prefix: int, block_size: int) -> tuple[int, int] | None:
        return None

    def decompress(self, member: Buffer, length: int) -> bytes:
        from isal import igzip_lib, isal_zlib

        work = isal_zlib.decompressobj(self._WBITS)
        try:
            payload: bytes = work.decompress(member, length + 1)
        except igzip_lib.IsalError as error:  # type: ignore[misc]
            raise FormatError(f"gzip member is damaged: {error}") from None
        if not work.eof:
            raise TornError("gzip member is cut or longer than expected")
        if len(payload) != length or work.unused_data:
            raise FormatError(f"gzip member holds {len(payload)} bytes, expected {length}")
        return payload

    def stream(self, read: Read) -> Iterator[bytes]:
        from isal import igzip_lib, isal_zlib

        work = isal_zlib.decompressobj(self._WBITS)
        data: bytes = read(_PIECE)
        if not data:
            raise TornError("gzip file is empty")
        while True:
            try:
                piece = work.decompress(data, _PIECE)
            except igzip_lib.IsalError as error:  # type: ignore[misc]
                raise FormatError(f"gzip stream is damaged: {error}") from None
            if piece:
                yield piece
            if work.eof:
                data = work.unused_data or read(_PIECE)
                if not data:
                    return
                work = isal_zlib.decompressobj(self._WBITS)
                continue
            data = work.unconsumed_tail
            if not data and len(piece) < _PIECE:
                data = read(_PIECE)
                if not data:
                    raise TornError("gzip stream is cut")


_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZSTD_BLOCK = 128 * 1024  # bytes; the most one block may hold
_RAW_BLOCK, _RLE_BLOCK = 0, 1
_MAX_FRAME = 64 * 1024 * 1024  # bytes of payload; we write far less


def _zstd_block(kind: int, size: int, last: bool) -> bytes:
    return ((size << 3) | (kind << 1) | last).to_bytes(3, "little")


class Zstd:
    """NAME.N.zst."""

    suffix = ".zst"
    _LEVEL = 1

    def compress(self, parts: Sequence[Buffer]) -> bytes:
        import zstandard

        compressor = getattr(_local, "zstd_compressor", None)
        if compressor is None:
            compressor = _local.zstd_compressor = zstandard.ZstdCompressor(level=self._LEVEL)
        work = compressor.compressobj(size=sum(len(part) for part in parts))
        out = [work.compress(part) for part in parts]
        out.append(work.flush())
        return b"".join(out)

    # A frame of zero blocks is written out by hand: an offset as a raw block of 8 bytes,
    # then run-length blocks of 4 bytes for each 128 KiB.  So terabytes of holes cost
    # neither time nor room, and reading them back is one comparison.
    _ZERO_HEADER = _ZSTD_MAGIC + b"\x80\x38"  # 4 bytes of content size; window 128 KiB

    def zeros(self, prefix: bytes, first: int, block_size: int, count: int) -> bytes | None:
        whole, rest = divmod(block_size, _ZSTD_BLOCK)
        run = (_zstd_block(_RLE_BLOCK, _ZSTD_BLOCK, False) + b"\0") * whole
        if rest:
            run += _zstd_block(_RLE_BLOCK, rest, False) + b"\0"
        raw = _zstd_block(_RAW_BLOCK, difffile.OFFSET_SIZE, False)
        length = len(prefix) + count * (difffile.OFFSET_SIZE + block_size)
        out = [self._ZERO_HEADER, struct.pack("<I", length)]
        if prefix:
            out += [_zstd_block(_RAW_BLOCK, len(prefix), False), prefix]
        for index in range(first, first + count):
            out += [raw, difffile.encode_offset(index * block_size), run]
        out.append(_zstd_block(_RAW_BLOCK, 0, True))
        return b"".join(out)

    def zero_run(self, member: Buffer, prefix: int, block_size: int) -> tuple[int, int] | None:
        head = len(self._ZERO_HEADER)
        start = head + 4 + ((3 + prefix) if prefix else 0) + 3
        if bytes(member[:head]) != self._ZERO_HEADER or len(member) < start + difffile.OFFSET_SIZE:
            return None
        (length,) = struct.unpack_from("<I", member, head)
        count, rest = divmod(length - prefix, difffile.OFFSET_SIZE + block_size)
        (offset,) = struct.unpack_from("<Q", member, start)
        # a frame cannot hold more records than it has bytes: bounds what is built to compare
        if rest or not 1 <= count <= len(member) // difffile.OFFSET_SIZE or offset % block_size:
            return None
        first = offset // block_size
        kept = bytes(member[head + 7 : head + 7 + prefix]) if prefix else b""
        if (offset + count * block_size) > difffile.MAX_OFFSET:
            return None
        return (first, count) if self.zeros(kept, first, block_size, count) == bytes(member) else None

    def decompress(self, member: Buffer, length: int) -> bytes:
        import zstandard

        decompressor = getattr(_local, "zstd_decompressor", None)
        if decompressor is None:
            decompressor = _local.zstd_decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 27)
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
        import zstandard

        seen = False
        for frame in self.frames(read):
            seen = True
            try:
                length = zstandard.frame_content_size(frame)
            except zstandard.ZstdError as error:
                raise FormatError(f"zstd frame is damaged: {error}") from None
            if not 0 <= length <= _MAX_FRAME:
                raise FormatError("zstd frame does not say its size, or too large a one")
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
                data = read(_PIECE)
                if not data:
                    raise TornError("zstd stream is cut")
                held.extend(data)

        while True:
            if not held:
                held.extend(read(_PIECE))
                if not held:
                    return
            fill(5)
            if bytes(held[:4]) != _ZSTD_MAGIC:
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


class Lzop:
    """NAME.N.lzop, through Debian's lzop program; one stream, never members."""

    suffix = ".lzop"

    def compress(self, parts: Sequence[Buffer]) -> bytes:
        return b"".join(parts)  # LzopWriter compresses

    def zeros(self, prefix: bytes, first: int, block_size: int, count: int) -> bytes | None:
        return None

    def zero_run(self, member: Buffer, prefix: int, block_size: int) -> tuple[int, int] | None:
        return None

    def decompress(self, member: Buffer, length: int) -> bytes:
        raise FormatError("an lzop file has no members")

    def stream(self, read: Read) -> Iterator[bytes]:
        process = _lzop("-dc")
        assert process.stdin and process.stdout
        stdin, stdout = process.stdin, process.stdout

        unread: list[OSError] = []

        def feed() -> None:
            while True:
                try:
                    data = read(_PIECE)
                except OSError as error:
                    unread.append(error)
                    break
                try:
                    if not data:
                        break
                    stdin.write(data)
                except OSError:  # lzop ended; its exit status says why
                    break
            with contextlib.suppress(OSError):
                stdin.close()  # or lzop would wait for more for ever

        feeder = threading.Thread(target=feed, daemon=True)
        feeder.start()
        try:
            while piece := stdout.read(_PIECE):
                yield piece
            feeder.join()
            if unread:
                raise unread[0]
            if process.wait() != 0:
                raise TornError("lzop stream is cut or damaged")
        finally:
            process.kill()
            process.wait()
            feeder.join()
            stdout.close()
            with contextlib.suppress(OSError):
                stdin.close()


class LzopWriter:
    """Compress what is written by one lzop process; `sink` gets what comes out, in another thread."""

    def __init__(self, sink: Callable[[bytes], object]) -> None:
        """Raises ProgramMissing where there is no lzop."""
        self._process = _lzop("-c")
        self._sink = sink
        self._failure: Exception | None = None
        self._drainer = threading.Thread(target=self._drain, daemon=True)
        self._drainer.start()

    def _drain(self) -> None:
        assert self._process.stdout
        try:
            while data := self._process.stdout.read(_PIECE):
                self._sink(data)
        except Exception as error:
            self._failure = error
            self._process.kill()

    def write(self, data: Buffer) -> None:
        """Compress data; raises what the sink raised, CommandFailed if lzop ended."""
        assert self._process.stdin
        try:
            self._process.stdin.write(data)
        except OSError as error:
            raise self._failure or CommandFailed("lzop", f"it ended early: {error.strerror}") from None

    def close(self) -> None:
        """Finish the stream; raises what the sink raised, CommandFailed if lzop failed."""
        assert self._process.stdin and self._process.stdout
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._drainer.join()
        self._process.stdout.close()
        status = self._process.wait()
        if self._failure:
            raise self._failure
        if status:
            raise CommandFailed("lzop", f"it ended with exit code {status}")

    def abort(self) -> None:
        """End lzop without finishing."""
        self._process.kill()
        with contextlib.suppress(Exception):  # it was killed: whatever it says is of no interest
            self.close()


def _lzop(mode: str) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(
            ["lzop", mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except FileNotFoundError:
        raise ProgramMissing("lzop", hint="apt-get install lzop, or choose --gzip or --zstd") from None


PLAIN, GZIP, ZSTD, LZOP = Plain(), Gzip(), Zstd(), Lzop()
BY_SUFFIX: dict[str, Codec] = {codec.suffix: codec for codec in (PLAIN, GZIP, ZSTD, LZOP)}


def unwrap(codec: int, length: int, body: Buffer) -> Buffer:
    """Return what a DATA frame carries, exactly length bytes.  Raises FormatError.

    Format: blockdiff-protocol(5), "DATA".
    """
    if codec == messages.RAW:
        return body
    if codec == messages.ZSTD:
        return ZSTD.decompress(body, length)
    work = zlib.decompressobj()
    try:
        data = work.decompress(body, length + 1)
    except zlib.error as error:
        raise FormatError(f"data does not decompress: {error}") from None
    if len(data) != length or not work.eof or work.unused_data:
        raise FormatError(f"data decompresses to {len(data)} bytes, expected {length}")
    return data
