"""Whether an object still has the bytes that the store was sent, as the mark shows that the store gave it then.

The mark (ETag) of what one request made is its MD5; of an upload in parts, the MD5 of the parts' MD5s, "-" and
their count.  It does not show how large the parts were: those of this program are known.
"""

import hashlib
import re
from collections.abc import Callable, Iterator

from blockdiff.place.base import PIECE, Blob
from blockdiff.place.upload import part_size

_MD5S = re.compile(r"([0-9a-f]{32})(?:-([1-9][0-9]{0,4}))?")


def fits(blob: Blob, progress: Callable[[int], object]) -> bool | None:
    """Read an object, and return whether its mark is that of its bytes; None, and nothing is read: it is no MD5.

    False also for parts of other sizes, or where a store does not make marks of MD5s.  `progress` is called with
    bytes that were read.  Raises as Blob.pread.
    """
    match = _MD5S.fullmatch(str(blob.look().mark))
    if match is None:
        return None
    sizes = list(_parts(blob.size)) if match[2] else [blob.size]
    if match[2] and int(match[2]) != len(sizes):
        return None
    blob.in_order()
    digests, offset = [], 0
    for size in sizes:
        digest, end = hashlib.md5(usedforsecurity=False), offset + size
        while offset < end:
            piece = blob.pread(min(PIECE, end - offset), offset)
            digest.update(piece)
            offset += len(piece)
            progress(len(piece))
        digests.append(digest)
    whole = hashlib.md5(b"".join(one.digest() for one in digests), usedforsecurity=False) if match[2] else digests[0]
    return whole.hexdigest() == match[1]


def _parts(size: int) -> Iterator[int]:
    """Yield the sizes of the parts in which so many bytes are sent."""
    sent = count = 0
    while sent < size or not count:
        length = min(part_size(sent, count, None), size - sent)
        yield length
        sent, count = sent + length, count + 1
