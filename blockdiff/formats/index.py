"""The index, NAME.N.idx: where each compressed member of a diff file starts and which blocks it contains.

With the index any block is read without decompressing the members before it.  It may be
removed: then the diff file is read from its start.  Pure.
Format: blockdiff-formats(5), "Index".
"""

import contextlib
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from blockdiff.formats import FormatError, TornError, check_block_size, difffile

_HEADER = struct.Struct("<8sI")
_ENTRY = struct.Struct("<QQQQ")
_MAGIC = b"bdindex1"
HEADER_SIZE, ENTRY_SIZE = _HEADER.size, _ENTRY.size  # bytes
_ENTRIES = 4096  # that are read at a time


class Member(NamedTuple):
    """One member: all its records are whole and in ascending order of blocks."""

    place: int  # bytes from the start of the diff file
    payload: int  # bytes of payload before it, the u32 block size counted
    first: int  # index of its first block
    last: int  # index of its last block


class Span(NamedTuple):
    """A member together with where it ends."""

    member: Member
    stored: int  # bytes in the diff file
    length: int  # bytes of payload, the u32 block size counted where it is the first member


def encode_header(block_size: int) -> bytes:
    """Return the first bytes of an index."""
    return _HEADER.pack(_MAGIC, check_block_size(block_size))


def encode(member: Member) -> bytes:
    """Return one entry; the file's last one is the end: its place and payload are the totals."""
    return _ENTRY.pack(*member)


def entry_place(number: int) -> int:
    """Return where in an index the entry of a member begins, in bytes; that after the last one is the end's."""
    return HEADER_SIZE + number * ENTRY_SIZE


def count(header: bytes, size: int, block_size: int) -> int:
    """Return how many members an index of size bytes has.  Raises FormatError or TornError."""
    if size < HEADER_SIZE + ENTRY_SIZE or (size - HEADER_SIZE) % ENTRY_SIZE:
        raise TornError("index does not end with a whole entry")
    if len(header) < HEADER_SIZE or _HEADER.unpack(header) != (_MAGIC, block_size):
        raise FormatError("not an index, or one for another block size")
    return (size - HEADER_SIZE) // ENTRY_SIZE - 1


def decode(entry: bytes) -> Member:
    """Return what an entry contains.  Raises TornError for fewer bytes than one has."""
    if len(entry) < ENTRY_SIZE:
        raise TornError("index is cut")
    return Member(*_ENTRY.unpack(entry))


def span(member: Member, after: Member, block_size: int) -> Span:
    """Return a member whose entry is followed by `after`.  Raises FormatError for what cannot be."""
    stored, length = after.place - member.place, after.payload - member.payload
    most = (member.last - member.first + 1) * (difffile.OFFSET_SIZE + block_size)
    most += 0 if member.place else difffile.HEADER_SIZE
    if stored <= 0 or not 0 < length <= most or member.last < member.first:
        raise FormatError("index has impossible members")
    return Span(member, stored, length)


def spans(read: Callable[[int], bytes], size: int, block_size: int) -> Iterator[Span]:
    """Yield the members of an index of size bytes in order, read a piece at a time.

    Raises FormatError or TornError, before the first span where it can.
    """
    rest = count(_exactly(read, HEADER_SIZE) if size >= HEADER_SIZE else b"", size, block_size) + 1
    before: Member | None = None
    while rest:
        some = min(_ENTRIES, rest)
        rest -= some
        for entry in _ENTRY.iter_unpack(_exactly(read, some * ENTRY_SIZE)):
            member = Member(*entry)
            if before is not None:
                yield span(before, member, block_size)
            elif member.place or member.payload:
                raise FormatError("index does not begin with the first member")
            before = member


def places(
    read: Callable[[int], bytes], size: int, block_size: int, wants: Callable[[int, int], bool]
) -> Iterator[tuple[int, int]]:
    """Yield where the members are that may have a block which `wants` (first, stop), and their lengths in the file.

    It ends where the index is damaged.
    """
    with contextlib.suppress(FormatError, OSError):
        for member, stored, _ in spans(read, size, block_size):
            if wants(member.first, member.last + 1):
                yield member.place, stored


def _exactly(read: Callable[[int], bytes], size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = read(size - len(data))
        if not more:
            raise TornError("index is cut")
        data += more
    return data
