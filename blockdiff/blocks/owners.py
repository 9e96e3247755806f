"""Which version of a chain has the record of a block, told by the digest files alone.

A version has a record of every block whose digest differs from that in its parent.  So a block's
record is in the newest version of the chain whose digest of it differs from the parent's.  A
version that was rewritten may have more records; those are not needed.  Blocks are compared in
windows, when one of them is first wanted, and nothing is built in advance: a table of all
blocks would take gigabytes for a large volume.  A wrong digest file leads to a wrong record, and
that one does not have the digest that the wanted version needs.
"""

import threading
from array import array
from collections import OrderedDict
from collections.abc import Iterator, Sequence

from blockdiff.blocks import blockset
from blockdiff.blocks.md5many import md5_many
from blockdiff.formats import BYTES_OF_DIGEST
from blockdiff.sets.digests import Digests
from blockdiff.sets.version import VersionFiles

ZEROS = -1  # the owner of a whole block of zeros: no record is needed
_BLOCKS = 4096  # in a window
_WINDOWS = 64  # that are kept; 20 bytes a block


class Window:
    """Some neighbouring blocks: their digests in the wanted version and their owners."""

    def __init__(self, first: int, digests: bytes, owners: "array[int]") -> None:
        self.first = first
        self.stop = first + len(owners)
        self._digests, self._owners = digests, owners

    def digest(self, block: int) -> bytes:
        """Return the digest that the wanted version has of a block of this window."""
        place = (block - self.first) * BYTES_OF_DIGEST
        return self._digests[place : place + BYTES_OF_DIGEST]

    def owner(self, block: int) -> int:
        """Return which version has the record of a block of this window: its number in the chain, or ZEROS."""
        return self._owners[block - self.first]

    def runs(self, first: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Yield the blocks from first to stop in this window as (first, stop, owner), in order."""
        first, stop = max(first, self.first), min(stop, self.stop)
        while first < stop:
            owner, after = self._owners[first - self.first], first + 1
            while after < stop and self._owners[after - self.first] == owner:
                after += 1
            yield first, after, owner
            first = after


class Owners:
    """The owners of all blocks, computed as they are asked for; for any number of threads."""

    def __init__(self, links: Sequence[VersionFiles]) -> None:
        """`links`: the versions of the chain, oldest first; the last one is the wanted one.

        The caller closes it.  Raises MissingFile or StoreUnreadable.
        """
        self._links = links
        self._count, block_size = links[-1].version.count, links[-1].version.block_size
        self._zero_digest = md5_many(bytes(block_size), block_size, block_size, 1)
        self._wanted = Digests(links[-1].digests, self._count, links[-1].open)
        self._windows: OrderedDict[int, Window] = OrderedDict()
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the wanted version's digest file."""
        self._wanted.close()

    def md5_sha256(self) -> str:
        """Return the SHA-256 of the wanted version's digest file, in hex.  Raises StoreUnreadable."""
        return self._wanted.seal()

    def windows(self, first: int, stop: int) -> Iterator[Window]:
        """Yield the windows of the blocks from first to stop, in order.

        Raises DamagedFile, MissingFile or StoreUnreadable.
        """
        for number in range(first // _BLOCKS, -(-stop // _BLOCKS)):
            with self._lock:
                found = self._windows.get(number)
                if found is not None:
                    self._windows.move_to_end(number)
            if found is None:
                found = self._window(number * _BLOCKS)
                with self._lock:
                    self._windows[number] = found
                    if len(self._windows) > _WINDOWS:
                        self._windows.popitem(last=False)
            yield found

    def zeros(self, first: int, stop: int) -> Iterator[tuple[int, int, bool]]:
        """Yield the blocks from first to stop as (first, stop, whether they are whole and zero), in order."""
        for start in range(first, stop, _BLOCKS):
            count = min(_BLOCKS, stop - start)
            place = start
            for begin, after in self._not_zero(start, self._wanted.take(start, count)):
                if place < begin:
                    yield place, begin, True
                yield begin, after, False
                place = after
            if place < start + count:
                yield place, start + count, True

    def _not_zero(self, first: int, digests: bytes) -> Iterator[blockset.Run]:
        zeros = self._zero_digest * (len(digests) // BYTES_OF_DIGEST)
        return blockset.changed(zeros, digests, first)

    def _window(self, first: int) -> Window:
        count = min(_BLOCKS, self._count - first)
        owners = array("i", [0]) * count
        older = b""
        for number, files in enumerate(self._links):
            known = min(count, max(0, files.version.count - first))
            newer = b""
            if number == len(self._links) - 1:
                newer = self._wanted.take(first, count)
            elif known:
                with Digests(files.digests, files.version.count, files.open) as digests:
                    newer = digests.take(first, known)
            for begin, after in blockset.changed(older, newer, first):
                owners[begin - first : after - first] = array("i", [number]) * (after - begin)
            older = newer
        place = first
        for begin, after in [*self._not_zero(first, older), (first + count, first + count)]:
            owners[place - first : begin - first] = array("i", [ZEROS]) * (begin - place)
            place = after
        return Window(first, older, owners)
