"""Compression of diff files, one member at a time, and of what comes over the wire.

A diff file is a row of members, each compressed on its own: gzip members or Zstandard
frames.  `gunzip` and `zstd -d` read such a file as one stream, while we compress and
decompress many at once and reach any block.  The original's files are one long member;
they are read as a stream.  Every output is bounded before memory is spent.
Format: blockdiff-formats(5), "Members".
"""

import zlib

from blockdiff.codecs.base import MAX_MEMBER, MAX_STORED, MEMBER_SIZE, Buffer, Codec
from blockdiff.codecs.gzip import Gzip
from blockdiff.codecs.lzop import Lzop, LzopWriter
from blockdiff.codecs.plain import Plain
from blockdiff.codecs.zstd import Zstd
from blockdiff.formats import FormatError, messages

__all__ = [
    "BY_SUFFIX", "GZIP", "LZOP", "MAX_MEMBER", "MAX_STORED", "MEMBER_SIZE", "PLAIN", "ZSTD", "Codec", "LzopWriter",
    "Plain", "Zstd", "unwrap",
]  # fmt: skip

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
