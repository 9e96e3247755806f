"""Whether an object still has the bytes that the store was sent, as the mark shows that the store gave it then.

The mark (ETag) of what one request made is its MD5; of an upload in parts, the MD5 of the parts' MD5s, "-" and
their count.  It does not show how large the parts were.  Those of this program are known, and other programs, which
may have brought a set from another store, send parts of one size, of whole MiB.
"""

import hashlib
import re
from collections.abc import Callable, Iterator

from blockdiff.place.base import PIECE, Blob
from blockdiff.place.upload import part_size

_MD5S = re.compile(r"([0-9a-f]{32})(?:-([1-9][0-9]{0,4}))?")
_MIB = 1 << 20
_MOST_SIZES = 16  # of other programs that are tried


def fits(blob: Blob, progress: Callable[[int], object]) -> bool | None:
    """Read an object, and return whether its mark is that of its bytes; None, and nothing is read: it is no MD5.

    False also for parts of sizes that nobody knows, or where a store does not make marks of MD5s.  `progress` is
    called with bytes that were read.  Raises as Blob.pread.
    """
    match = _MD5S.fullmatch(str(blob.look().mark))
    if match is None:
        return None
    count = int(match[2] or 0)
    ways = [_Mark(sizes) for sizes in (_ways(blob.size, count) if count else [[blob.size]])]
    if not ways:
        return None
    blob.in_order()
    for offset in range(0, blob.size, PIECE):
        piece = memoryview(blob.pread(PIECE, offset))
        for way in ways:
            way.update(piece)
        progress(len(piece))
    return match[1] in [way.of_parts() if count else way.of_one() for way in ways]


class _Mark:
    """The MD5s of parts of given sizes."""

    def __init__(self, sizes: list[int]) -> None:
        self._sizes, self._digests = iter(sizes), list[bytes]()
        self._begin()

    def _begin(self) -> None:
        self._left = next(self._sizes, 0)
        self._part = hashlib.md5(usedforsecurity=False)

    def update(self, data: memoryview) -> None:
        """Take the next bytes."""
        while data:
            part, data = data[: self._left], data[self._left :]
            self._part.update(part)
            self._left -= len(part)
            if not self._left:
                self._digests.append(self._part.digest())
                self._begin()

    def of_one(self) -> str:
        """Return the mark of the only part, in hex."""
        return (self._digests or [self._part.digest()])[0].hex()

    def of_parts(self) -> str:
        """Return the mark of the parts, in hex; an empty file has an empty one."""
        return hashlib.md5(b"".join(self._digests or [self._part.digest()]), usedforsecurity=False).hexdigest()


def _ways(size: int, count: int) -> list[list[int]]:
    """Return the sizes of so many parts in which so many bytes may have been sent."""
    if count == 1:
        return [[size]]
    ways = [list(_parts(size))]
    if count <= size:
        least, most = -(-size // (count * _MIB)), (size - 1) // ((count - 1) * _MIB)
        for one in range(least, min(most, least + _MOST_SIZES) + 1):
            ways.append([one * _MIB] * (count - 1) + [size - one * _MIB * (count - 1)])
    return [way for place, way in enumerate(ways) if len(way) == count and way not in ways[:place]]


def _parts(size: int) -> Iterator[int]:
    """Yield the sizes of the parts in which this program sends so many bytes."""
    sent = count = 0
    while sent < size or not count:
        length = min(part_size(sent, count, None), size - sent)
        yield length
        sent, count = sent + length, count + 1
