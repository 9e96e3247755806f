"""The digest file, NAME.N.md5 and NAME.N.xxh128: one digest for each block of a volume.

A header of 4 bytes (u32 block size), then 16 bytes a block, in block order.
Format: blockdiff-formats(5), "Digest file".
"""

import struct

from blockdiff.formats import BYTES_OF_DIGEST, FormatError, TornError, check_block_size

_HEADER = struct.Struct("<I")
HEADER_SIZE = _HEADER.size  # bytes


def encode_header(block_size: int) -> bytes:
    """Return the header for blocks of block_size bytes."""
    return _HEADER.pack(check_block_size(block_size))


def decode_header(data: bytes) -> int:
    """Return the block size of a header, in bytes.

    Raises TornError if data does not have the length of a header, FormatError for an impossible size.
    """
    if len(data) != HEADER_SIZE:
        raise TornError("digest header is %d bytes, expected %d" % (len(data), HEADER_SIZE))
    return check_block_size(int(_HEADER.unpack(data)[0]))


def count(size: int) -> int:
    """Return how many digests a digest file of size bytes contains.

    Raises TornError if it does not end with a whole digest.
    """
    body = size - HEADER_SIZE
    if body < 0 or body % BYTES_OF_DIGEST:
        raise TornError("digest file of %d bytes does not end with a whole digest" % size)
    return body // BYTES_OF_DIGEST


def position(index: int) -> int:
    """Return where in the file the digest of block index begins, in bytes."""
    return HEADER_SIZE + index * BYTES_OF_DIGEST


def blocks_of(volume_size: int, block_size: int) -> int:
    """Return how many blocks a volume of volume_size bytes has."""
    if volume_size < 0:
        raise FormatError("volume size %d is negative" % volume_size)
    return -(-volume_size // block_size)


def length_of(index: int, volume_size: int, block_size: int) -> int:
    """Return the length of block index in bytes; only the last one may be shorter."""
    return min(block_size, volume_size - index * block_size)
