"""Bytes on disk and on the wire: values in, bytes out, and back.  Nothing here reads or writes.

Pure and stdlib only; the same modules run on the source host, so they keep to
what Python 3.6 has.
"""

from typing import Union

BYTES_OF_DIGEST = 16  # MD5 and XXH3-128 alike
MAX_BLOCK_SIZE = 16 * 1024 * 1024  # bytes

Buffer = Union[bytes, bytearray, memoryview]


class FormatError(ValueError):
    """Bytes are not of the format they should be of; says what is wrong in one line."""


class TornError(FormatError):
    """Bytes end before the format lets them."""


def check_block_size(size: int) -> int:
    """Return size (bytes) if a block may have it.

    Any number counts, not only powers of two: sets with odd ones exist.
    Raises FormatError otherwise.  Format: blockdiff-formats(5), "Block size".
    """
    if not 1 <= size <= MAX_BLOCK_SIZE:
        raise FormatError("block size %d is not between 1 and %d bytes" % (size, MAX_BLOCK_SIZE))
    return size
