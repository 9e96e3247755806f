"""A version as an image: any bytes of it, without restoring it.

No byte is returned that is not proved: a block is returned only if it has the MD5 that the wanted
version's own digest file has for it, and that file is the one that its manifest lists.  A block of
zeros is known by that digest, and no diff file is read for it.  For the others, blocks/owners.py
names the version that has the record, and its member is decompressed and kept for a while.
What was found when the image was opened stays open: a prune beside it removes only names.
"""

import contextlib
from collections.abc import Iterator

from blockdiff.blocks import md5many
from blockdiff.blocks.diffreader import last_length
from blockdiff.blocks.membercache import MemberCache
from blockdiff.blocks.owners import ZEROS, Owners, Window
from blockdiff.blocks.records import Records
from blockdiff.blocks.storedblocks import StoredBlocks
from blockdiff.errors import BlockdiffError, DigestMismatch
from blockdiff.formats import names
from blockdiff.sets import chain, versions
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.held import Held, holding
from blockdiff.sets.version import VersionFiles

_Chosen = tuple[list[VersionFiles], list[str]]  # the versions of the chain, oldest first, and warnings

CACHE = 256 * 1024 * 1024  # bytes of decompressed members that are kept, unless asked for otherwise
_TOGETHER = 32  # records that are proved at once
_HINT = "blockdiff-verify lists what is lost and which versions still restore"


class Image:
    """One version; any thread may read."""

    def __init__(self, links: list[VersionFiles], cache: int, warnings: list[str]) -> None:
        """`links`: the versions of its chain, oldest first.  `cache`: bytes.  The caller closes it.

        Raises NotOurFormat, DigestMismatch, DamagedFile or StoreUnreadable.
        """
        self.version = links[-1].version
        self.warnings = warnings
        self.block_size = self.version.block_size
        self._members: MemberCache[Records] = MemberCache(cache)
        self._stored = [StoredBlocks(files, self._members) for files in links]
        self._owners = Owners(links)
        try:
            self.size = self._size()  # bytes
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close what it has open."""
        self._owners.close()

    def md5_sha256(self) -> str:
        """Return the SHA-256 of the version's digest file, in hex.  Raises StoreUnreadable."""
        sheet = self.version.manifest
        return self._owners.md5_sha256() if sheet is None else sheet.files[".md5"].sha256

    def _size(self) -> int:
        """Return the size of the volume; in a set of the original only the last block's record has it."""
        count = self.version.count
        length = last_length(self.version)
        if length is None and count:
            length = self.block_size
            for window, _, _, owner in self._runs(count - 1, count):
                if owner != ZEROS:
                    records, first, _ = self._proved(window, owner, count - 1, count)
                    start, end = records.span(first)
                    length = end - start
        return (count - 1) * self.block_size + length if count and length else 0

    def read(self, offset: int, length: int) -> bytearray:
        """Return these bytes, as `read_into` does."""
        out = bytearray(length)
        with memoryview(out) as view:
            self.read_into(offset, view)
        return out

    def read_into(self, offset: int, target: memoryview) -> None:
        """Fill `target` with the bytes from offset on, all of which the volume must have.

        Raises DigestMismatch, DamagedFile, MissingFile or StoreUnreadable, with the file, if one of them cannot be
        proved.
        """
        end = offset + len(target)
        if not 0 <= offset <= end <= self.size:
            raise ValueError(f"bytes {offset} to {end} are not all in a volume of {self.size} bytes")
        for window, first, stop, owner in self._runs(offset // self.block_size, -(-end // self.block_size)):
            if owner == ZEROS:
                begin = max(offset, first * self.block_size)
                after = min(end, stop * self.block_size)
                target[begin - offset : after - offset] = bytes(after - begin)
                continue
            while first < stop:
                records, place, last = self._proved(window, owner, first, stop)
                view = memoryview(records.payload)
                for record in range(place, last):
                    block = first * self.block_size
                    start, close = records.span(record)
                    if close - start != min(self.block_size, self.size - block):
                        raise self._wrong(owner, first)
                    skip = max(0, offset - block)
                    close = min(close, start + end - block)
                    target[block + skip - offset : block + close - start - offset] = view[start + skip : close]
                    first += 1

    def extents(self, offset: int, length: int) -> Iterator[tuple[int, int, bool]]:
        """Yield these bytes as (offset, length, whether all of them are known to be zero), in order."""
        end = min(offset + length, self.size)
        for first, stop, zero in self._owners.zeros(offset // self.block_size, -(-end // self.block_size)):
            begin, after = max(offset, first * self.block_size), min(end, stop * self.block_size)
            yield begin, after - begin, zero

    def _runs(self, first: int, stop: int) -> Iterator[tuple[Window, int, int, int]]:
        for window in self._owners.windows(first, stop):
            for begin, after, owner in window.runs(first, stop):
                yield window, begin, after, owner

    def _proved(self, window: Window, owner: int, first: int, stop: int) -> tuple[Records, int, int]:
        """Return the records of `first` and of blocks that follow it, up to stop: first, and after the last.

        Each has the digest of the wanted version.
        """
        try:
            records = self._stored[owner].records(first)
        except BlockdiffError as error:
            error.hint = error.hint or _HINT
            raise
        begin, end = records.run(first, stop - first)
        if begin == end:
            raise self._wrong(owner, first)
        if records.proved.find(0, begin, end) >= 0:
            with records.proving:
                if records.proved.find(0, begin, end) >= 0:
                    _prove(records, begin, end, window, owner)
            wrong = records.proved.find(0, begin, end)
            if wrong >= 0:
                raise self._wrong(owner, first + wrong - begin)
        return records, begin, end

    def _wrong(self, owner: int, block: int) -> BlockdiffError:
        start = block * self.block_size
        what = f"the block at byte {start} does not have the digest of version {self.version.number}"
        return DigestMismatch(self._stored[owner].files.diff, what, hint=_HINT)


def _prove(records: Records, first: int, stop: int, window: Window, owner: int) -> None:
    """Mark those of these records that have the digests of the wanted version.

    Some beside them that `owner` is asked for are proved as well: many MD5s at once take little more time than one.
    """
    if md5many.engine != "hashlib":
        first, stop = first // _TOGETHER * _TOGETHER, min(-(-stop // _TOGETHER) * _TOGETHER, records.count)
    doubtful: list[int] = []
    expected: list[bytes] = []
    for record in range(first, stop):
        block = records.block(record)
        if not records.proved[record] and window.first <= block < window.stop and window.owner(block) == owner:
            doubtful.append(record)
            expected.append(window.digest(block))
    found = md5many.md5_of(records.payload, [records.span(record) for record in doubtful], records.step)
    for record, digest, wanted in zip(doubtful, found, expected, strict=True):
        if digest == wanted:
            records.proved[record] = 1


@contextlib.contextmanager
def opened(backup_set: BackupSet, number: int | None, cache: int = CACHE) -> Iterator[Image]:
    """Give version `number` (None: the newest) as an image; `cache`: bytes of members that are kept.

    Only the digest file of that version is read as a whole.  Raises BlockdiffError if the version does not
    exist, its chain has a gap, or a file of the chain cannot be read at any place.
    """

    def collect(listing: names.Listing, held: Held) -> tuple[_Chosen, list[VersionFiles]]:
        chosen, warnings = versions.choose(backup_set, number, listing)
        links = chain.chain_of(backup_set, chosen, listing, deep=False, deep_last=True)
        files = [versions.files_of(backup_set, link, held.open) for link in links]
        return (files, warnings), files[::-1]

    with holding(backup_set, collect) as (links, said), contextlib.closing(Image(links, cache, said)) as image:
        yield image
