"""Bytes on disk and on the wire: values in, bytes out, and back.  Nothing here reads or writes.

Pure and stdlib only; some of these modules also run on the source host, and those keep to
Python 3.6.
"""

from typing import Union

BYTES_OF_DIGEST = 16  # MD5 and XXH3-128 alike
MAX_BLOCK_SIZE = 16 * 1024 * 1024  # bytes

Buffer = Union[bytes, bytearray, memoryview]


class FormatError(ValueError):
    """Bytes are not of the expected format; the text is what is wrong, in one line."""


class TornError(FormatError):
    """Bytes end before the format allows it."""


def check_block_size(size: int) -> int:
    """Return size (bytes) if a block may have it.

    Every number is allowed, not only powers of two: there are sets with others.
    Raises FormatError otherwise.  Format: blockdiff-formats(5), "Block size".
    """
    if not 1 <= size <= MAX_BLOCK_SIZE:
        raise FormatError("block size %d is not between 1 and %d bytes" % (size, MAX_BLOCK_SIZE))
    return size
