"""Blocks against the digests that they must have.

A block of zeros is known by one comparison, and its digest is computed once.
"""

import hashlib
from collections.abc import Iterator

from blockdiff.blocks import blockset
from blockdiff.sets.digests import Digests

_AT_ONCE = 4096  # digests


class BlockChecker:
    """What a version's digest file says of blocks; any thread may ask."""

    def __init__(self, digests: Digests, block_size: int) -> None:
        self.digests = digests
        self._zeros = bytes(block_size)
        self._zero_digest = hashlib.md5(self._zeros, usedforsecurity=False).digest()

    def is_zero(self, payload: bytes | bytearray, start: int, end: int, digest: bytes) -> bool:
        """Tell whether payload[start:end] is a whole block of zeros and the digest says so, too."""
        return digest == self._zero_digest and payload.startswith(self._zeros, start, end)

    def has(self, block: memoryview, digest: bytes) -> bool:
        """Tell whether a block has this digest."""
        return hashlib.md5(block, usedforsecurity=False).digest() == digest

    def not_zero(self, first: int, stop: int) -> Iterator[blockset.Run]:
        """Yield which of these blocks the digest file does not say are whole and zero."""
        for start in range(first, stop, _AT_ONCE):
            count = min(_AT_ONCE, stop - start)
            yield from blockset.changed(self._zero_digest * count, self.digests.take(start, count), start)

    def count_not_zero(self) -> int:
        """Return how many blocks the digest file does not say are whole and zero."""
        zeros = 0
        for start in range(0, self.digests.count, _AT_ONCE):
            data = self.digests.take(start, min(_AT_ONCE, self.digests.count - start))
            zeros += data.count(self._zero_digest)
        return self.digests.count - zeros
