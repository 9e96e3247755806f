"""What a DATA frame carries, decompressed."""

import zlib

from blockdiff.codecs import ZSTD
from blockdiff.formats import Buffer, FormatError
from blockdiff.wire import messages


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
