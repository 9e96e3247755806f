"""Where the members of a diff file are, and which of them may have a block's record.

With an index, its entries are searched where they are, and the pages that were found last are kept;
it is never loaded as a whole.  Without one, the records of a plain file are where arithmetic says, and
the frames of a .zst file are listed once, from their headers.  gzip and lzop have no such headers:
what is not too long is one member, and a longer file is refused.
Format: blockdiff-formats(5), "Members", "Index".
"""

import bisect
import contextlib
import operator
import struct
from array import array
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from blockdiff import codecs
from blockdiff.codecs import base
from blockdiff.errors import NotOurFormat
from blockdiff.formats import TornError, difffile, index
from blockdiff.place.base import Sequence
from blockdiff.sets.version import VersionFiles

_OFFSET = struct.Struct("<Q")
_FIRST = operator.attrgetter("first")
_PAGE = 64  # members whose entries are read at once
_RECENT = 8  # pages


class Member(NamedTuple):
    """A member of a diff file, as far as it is known before it is decompressed."""

    place: int  # bytes; where it begins in the file
    stored: int  # bytes in the file
    length: int | None  # bytes of payload; None: not known
    skip: int = 0  # bytes of payload before its first record
    stream: bool = False  # decompressed only as a stream: it may be several members

    @property
    def large(self) -> bool:
        """Whether it is too large to be decompressed at once."""
        return self.length is None or self.length > base.MAX_MEMBER or self.stored > base.MAX_STORED


class Directory(Protocol):
    """The members of one diff file; for any number of threads."""

    def find(self, block: int) -> Member | None:
        """Return the only member that can have a block's record.  Raises FormatError or OSError."""


class Indexed:
    """The members that an index names; near those that were found last others are found without reading it."""

    def __init__(self, files: VersionFiles, path: str) -> None:
        """`path`: the index.  Raises FormatError or OSError."""
        self._files, self._path, self._block_size = files, path, files.version.block_size
        with contextlib.closing(files.open(path)) as blob:
            header = blob.pread(index.HEADER_SIZE, 0)
            self._count = index.count(header, blob.size, self._block_size)
        self._recent: tuple[list[index.Member], ...] = ()  # pages; each ends with the entry after it

    def find(self, block: int) -> Member | None:
        known = next((page for page in self._recent if page[0].first <= block <= page[-2].last), None)
        page = known or self._page(block)
        number = bisect.bisect_right(page, block, 0, len(page) - 1, key=_FIRST) - 1
        if number < 0:
            return None
        if known is None:
            self._recent = (page, *self._recent[: _RECENT - 1])
        found, stored, length = index.span(page[number], page[number + 1], self._block_size)
        if found.last < block:
            return None
        return Member(found.place, stored, length, 0 if found.place else difffile.HEADER_SIZE)

    def _page(self, block: int) -> list[index.Member]:
        """Return the page that has a block's member, if any has."""
        with contextlib.closing(self._files.open(self._path)) as blob:

            def entries(page: int, most: int) -> list[index.Member]:
                first = page * _PAGE
                size = min(most, self._count + 1 - first) * index.ENTRY_SIZE
                data = blob.pread(size, index.entry_place(first))
                return [index.decode(data[at : at + index.ENTRY_SIZE]) for at in range(0, size, index.ENTRY_SIZE)]

            pages = range(-(-self._count // _PAGE))
            after = bisect.bisect_right(pages, block, key=lambda page: entries(page, 1)[0].first)
            return entries(max(after, 1) - 1, _PAGE + 1)


class Plain:
    """Groups of records of a file that is not compressed."""

    def __init__(self, files: VersionFiles) -> None:
        self._files = files
        self._step = difffile.OFFSET_SIZE + files.version.block_size
        self._group = max(1, base.MEMBER_SIZE // self._step) * self._step

    def find(self, block: int) -> Member | None:
        with contextlib.closing(self._files.open(self._files.diff)) as blob:
            length = blob.size - difffile.HEADER_SIZE

            def first(number: int) -> int:
                data = blob.pread(difffile.OFFSET_SIZE, difffile.HEADER_SIZE + number * self._group)
                if len(data) < difffile.OFFSET_SIZE:
                    raise TornError("record ends inside its offset")
                return int(_OFFSET.unpack(data)[0]) // self._files.version.block_size

            number = bisect.bisect_right(range(-(-length // self._group)), block, key=first) - 1
        if number < 0:
            return None
        size = min(self._group, length - number * self._group)
        return Member(difffile.HEADER_SIZE + number * self._group, size, size)


class Listed:
    """Members that were listed from the file itself."""

    def __init__(self) -> None:
        self._firsts, self._places = array("Q"), array("Q")
        self._lengths = array("q")  # -1: not known
        self._end = 0
        self._stream = False

    def find(self, block: int) -> Member | None:
        number = bisect.bisect_right(self._firsts, block) - 1
        if number < 0:
            return None
        place, length = self._places[number], self._lengths[number]
        after = self._places[number + 1] if number + 1 < len(self._places) else self._end
        skip = 0 if place else difffile.HEADER_SIZE
        return Member(place, after - place, None if length < 0 else length, skip, self._stream)

    def _add(self, place: int, length: int | None, first: int) -> None:
        self._places.append(place)
        self._lengths.append(-1 if length is None else length)
        self._firsts.append(first)

    @classmethod
    def frames(cls, files: VersionFiles, codec: codecs.Zstd) -> "Listed":
        """List the frames of a .zst file.  Raises FormatError or OSError."""
        out, block_size = cls(), files.version.block_size
        with contextlib.closing(files.open(files.diff)) as blob:
            file = Sequence(blob)
            for frame in codec.frames(file.read):
                skip = 0 if frame.place else difffile.HEADER_SIZE
                zeros = codec.zero_run(frame.data, block_size) if frame.data else None
                if zeros is not None:
                    out._add(frame.place, frame.length, zeros[0])
                    continue
                size = skip + difffile.OFFSET_SIZE
                head = b"".join(_up_to(codec.unpack(frame, size), size))
                first = _OFFSET.unpack_from(head, skip)[0] // block_size if len(head) == size else 0
                out._add(frame.place, frame.length, first)
            out._end = file.place
        return out

    @classmethod
    def whole(cls, files: VersionFiles, codec: base.Codec) -> "Listed":
        """Take a file as one member.  Raises NotOurFormat for a longer one, FormatError or OSError."""
        out, length = cls(), 0
        out._stream = True
        with contextlib.closing(files.open(files.diff)) as blob:
            out._end = blob.size
            for part in codec.stream(Sequence(blob).read):
                length += len(part)
                if length > base.MAX_MEMBER or out._end > base.MAX_STORED:
                    why = "it is long and has no index, so that no part of it can be read alone"
                    hint = "restore the version with blockdiff-merge, or make one new full backup"
                    raise NotOurFormat(files.diff, why, hint=hint)
        out._add(0, length, 0)
        return out


def directory_of(files: VersionFiles) -> Directory:
    """Return the directory of a version's diff file.  Raises NotOurFormat, FormatError or OSError."""
    codec = codecs.BY_SUFFIX[files.version.suffix]
    if files.index is not None:
        return Indexed(files, files.index)
    if isinstance(codec, codecs.Plain):
        return Plain(files)
    if isinstance(codec, codecs.Zstd):
        return Listed.frames(files, codec)
    return Listed.whole(files, codec)


def _up_to(parts: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Yield the first bytes of what comes in parts."""
    while size and (part := next(parts, b"")):
        yield part[:size]
        size -= min(size, len(part))
