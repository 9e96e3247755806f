"""The records of one version's diff file, a member at a time and in any order.

A member that is too large to be decompressed at once is read as a stream, up to what is wanted of
it, and only the records of some neighbouring blocks are kept.
"""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

from blockdiff import codecs
from blockdiff.blocks import diffreader
from blockdiff.blocks.directory import Directory, Member, directory_of
from blockdiff.blocks.membercache import MemberCache
from blockdiff.blocks.records import Records
from blockdiff.codecs import base
from blockdiff.errors import BlockdiffError, DigestMismatch, StoreUnreadable
from blockdiff.formats import FormatError, TornError, difffile
from blockdiff.sets.version import VersionFiles

_PIECE = 1024 * 1024  # bytes of the file that a stream reads at once


class _Key(NamedTuple):
    version: int
    place: int  # of the member in the diff file
    part: int  # of a member that is too large; else 0


class StoredBlocks:
    """The blocks in one version's diff file; for any number of threads."""

    def __init__(self, files: VersionFiles, cache: MemberCache[Records]) -> None:
        """Raises NotOurFormat, DigestMismatch, DamagedFile or StoreUnreadable."""
        self.files, self._cache = files, cache
        self._codec = codecs.BY_SUFFIX[files.version.suffix]
        self._block_size = files.version.block_size
        self._step = difffile.OFFSET_SIZE + self._block_size
        self._part = max(1, base.MEMBER_SIZE // self._step)  # blocks
        try:
            self._directory: Directory = directory_of(files)
        except FormatError as error:
            raise diffreader.damage(files.diff, error) from None
        except OSError as error:
            raise StoreUnreadable(files.diff, error.strerror) from None

    def records(self, block: int) -> Records:
        """Return the records among which that of a block must be.

        Raises DigestMismatch, DamagedFile or StoreUnreadable.
        """
        where = self.files.diff
        try:
            member = self._directory.find(block)
            if member is None:
                raise self._lost(block)
            where = f"{self.files.diff}: member at byte {member.place}"
            if member.large:
                part = block // self._part
                cost = 2 * self._part * self._step + 2 * _PIECE
                key = _Key(self.files.version.number, member.place, part)
                return self._cache.get(key, cost, lambda: self._gather(member, part))
            cost = member.stored + (member.length or 0) * (2 if member.stream else 1)
            key = _Key(self.files.version.number, member.place, 0)
            return self._cache.get(key, cost, lambda: self._decompress(member))
        except FormatError as error:
            raise diffreader.damage(where, error) from None
        except OSError as error:
            raise StoreUnreadable(self.files.diff, error.strerror) from None

    def _lost(self, block: int) -> BlockdiffError:
        return DigestMismatch(self.files.diff, f"it has no record of the block at byte {block * self._block_size}")

    def _decompress(self, member: Member) -> Records:
        """Return all records of a member."""
        payload: base.Payload
        if member.stream:
            payload = b"".join(self._codec.stream(_Reader(self.files, member).read))
        else:
            data = _Reader(self.files, member).read(member.stored)
            if len(data) < member.stored:
                raise TornError("the file ends " + ("inside it" if data else "before it"))
            payload = self._codec.decompress(data, member.length or 0)
        if member.skip:
            self._check_header(bytes(payload[: member.skip]))
        return Records(payload, self._block_size, member.skip)

    def _check_header(self, header: bytes) -> None:
        found = difffile.decode_header(header)
        if found != self._block_size:
            raise FormatError(f"block size is {found}, in the digest file it is {self._block_size}")

    def _gather(self, member: Member, part: int) -> Records:
        """Return those records of a member that are of the blocks of a part."""
        low, high = part * self._part, (part + 1) * self._part
        out = bytearray()
        for payload in self._rows(member):
            rows = Records(payload, self._block_size)
            begin, end = rows.first_from(low), rows.first_from(high)
            out += payload[begin * self._step : end * self._step]
            if end < rows.count:
                break
        return Records(out, self._block_size)

    def _rows(self, member: Member) -> Iterator[bytes]:
        """Yield the whole records of a member, in pieces."""
        decoder = difffile.Decoder()
        decoder.block_size = None if member.skip else self._block_size
        checked = not member.skip
        for data in self._codec.stream(_Reader(self.files, member).read):
            decoder.feed(data)
            rows = decoder.take(self._step + 1 if checked else 1)
            if not checked and decoder.block_size is not None:
                self._check_header(difffile.encode_header(decoder.block_size))
                checked = True
            if rows:
                yield rows
        if rows := decoder.close():
            yield rows


class _Reader:
    """The bytes of a member, from its start."""

    def __init__(self, files: VersionFiles, member: Member) -> None:
        self._files, self._place, self._end = files, member.place, member.place + member.stored

    def read(self, size: int) -> bytes:
        """Return up to size bytes from the current position; fewer only at the member's end.  Raises OSError."""
        size = min(size, self._end - self._place)
        with contextlib.closing(self._files.open(self._files.diff)) as blob:
            data = blob.pread(size, self._place)
        self._place += len(data)
        return data
