"""A version's volume from its first byte to its last, for a pipe.

It is merged as a rewrite merges versions, but no diff file is written: every block goes out at once.
Of each version of the chain one member is held.
"""

import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from blockdiff.blocks import checker
from blockdiff.blocks.checker import BlockChecker
from blockdiff.errors import BlockdiffError, DamagedFile
from blockdiff.formats import Buffer
from blockdiff.rewriting import merge, source
from blockdiff.rewriting.source import Room
from blockdiff.sets.digests import Digests
from blockdiff.sets.version import VersionFiles

_ZEROS = memoryview(bytes(1024 * 1024))
_HINT = "what came before is right; blockdiff-verify lists what is lost and which versions still restore"


class Stream:
    """Gives blocks on in order, and counts them."""

    def __init__(self, write: Callable[[Buffer], object], block_size: int, progress: Callable[[int], object]) -> None:
        """`write` takes the bytes of the volume."""
        self._write, self._block_size, self._progress = write, block_size, progress
        self._next = 0  # block
        self._path = ""  # of the version's own diff file
        self.given = self.zeros = self.read = 0  # bytes

    def run(self, links: Sequence[VersionFiles], threads: int) -> None:
        """Give the last of these versions, oldest first, as a whole.

        Raises DamagedFile, DigestMismatch, NotOurFormat, StoreUnreadable, and what `write` raises.
        """
        version, self._path = links[-1].version, links[-1].diff
        room = Room(merge.most_payload(version.block_size), len(links))
        with contextlib.ExitStack() as cleanup, ThreadPoolExecutor(threads, thread_name_prefix="stream") as pool:
            own = cleanup.enter_context(Digests(links[-1].digests, version.count, links[-1].open))
            check = BlockChecker(own, version.block_size)
            try:
                sources = merge.open_sources(
                    links, check, pool, room, cleanup, suffix=None, full=True, progress=lambda length: None
                )
                for _, rows in merge.walk(sources, version):
                    for row in rows:
                        self._give(*row)
                self._reach(version.count)
            except BlockdiffError as error:
                error.hint = _HINT if error.hint in ("", source.HINT) else error.hint
                raise
            self.read = sum(each.read for each in sources)

    def _give(self, kind: int, first: int, stop: int, block: memoryview) -> None:
        self._reach(first)
        length = (stop - first) * self._block_size if kind == checker.ZERO else len(block)
        if kind == checker.ZERO:
            for place in range(0, length, len(_ZEROS)):
                self._write(_ZEROS[: length - place])
            self.zeros += length
        else:
            self._write(block)
        self._next = stop
        self.given += length
        self._progress(length)

    def _reach(self, block: int) -> None:
        """Raise DamagedFile unless all blocks before this one were given."""
        if self._next < block:
            lost = f"bytes {self._next * self._block_size} to {block * self._block_size - 1} are missing"
            raise DamagedFile(self._path, f"{lost} in it and in those before")
