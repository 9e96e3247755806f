"""The MD5s of many blocks at once.

The extension, md5lanes.c, computes one in each lane of the processor's vector registers.  Where it
was not built, hashlib computes the same, one after the other.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence

from blockdiff.formats import BYTES_OF_DIGEST, Buffer


def with_hashlib(buffer: Buffer, stride: int, length: int, count: int) -> bytes:
    """Return the MD5s, joined, of `count` blocks of `length` bytes, one every `stride` bytes from the start.

    Raises ValueError, before anything is read, unless the buffer has them all.
    """
    if stride < 1 or length < 0 or count < 0:
        raise ValueError("stride must be at least 1, length and count at least 0")
    with memoryview(buffer).cast("B") as view:
        if count and (count - 1) * stride + length > len(view):
            raise ValueError("not all blocks are within the buffer")
        places = range(0, count * stride, stride)
        return b"".join(hashlib.md5(view[at : at + length], usedforsecurity=False).digest() for at in places)


def _right(compute: Callable[[Buffer, int, int, int], bytes]) -> bool:
    """Return whether it computes what hashlib does: no mistake of a compiler may get into a digest file."""
    probe = bytes(range(256)) * 20
    places = (73, 121, 67)  # more blocks than there are lanes, and some left over
    return compute(probe, *places) == with_hashlib(probe, *places)


md5_many: Callable[[Buffer, int, int, int], bytes] = with_hashlib
engine = "hashlib"  # what computes them, for a person
try:
    from blockdiff.blocks import _md5lanes
except ImportError:
    pass
else:
    if _right(_md5lanes.md5_many):
        md5_many = _md5lanes.md5_many
        engine = "{1} lanes ({0})".format(*next(iter(_md5lanes.VARIANTS.items())))


def md5_of(buffer: Buffer, spans: Sequence[tuple[int, int]], stride: int) -> list[bytes]:
    """Return the MD5 of buffer[start:end] for each of these spans, most of which are `stride` bytes apart.

    A block between two of them is digested, too: no lane must stay empty for it.
    """
    out: list[bytes] = []
    view = memoryview(buffer)
    length = 0
    group: list[int] = []  # where blocks begin that are digested at once
    for start, end in spans:
        if group and (end - start != length or start - group[-1] not in (stride, 2 * stride)):
            out += _md5_of_group(view, group, stride, length)
            group = []
        length = end - start
        group.append(start)
    if group:
        out += _md5_of_group(view, group, stride, length)
    return out


def _md5_of_group(view: memoryview, starts: list[int], stride: int, length: int) -> list[bytes]:
    first = starts[0]
    digests = md5_many(view[first:], stride, length, (starts[-1] - first) // stride + 1)
    places: Iterable[int] = range(0, len(digests), BYTES_OF_DIGEST)
    if len(digests) > len(starts) * BYTES_OF_DIGEST:
        places = ((start - first) // stride * BYTES_OF_DIGEST for start in starts)
    return [digests[place : place + BYTES_OF_DIGEST] for place in places]
