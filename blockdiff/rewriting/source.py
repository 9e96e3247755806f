"""One version of a chain as a rewrite reads it: its records in order, each compared with the wanted digest."""

import collections
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from operator import itemgetter
from types import TracebackType

from blockdiff.blocks import blockset, checker, diffreader
from blockdiff.blocks.checker import BlockChecker, Checked
from blockdiff.codecs import base
from blockdiff.errors import BlockdiffError, MissingFile, NotOurFormat, StoreUnreadable
from blockdiff.formats import FormatError, difffile
from blockdiff.ingest.members import MadeMember
from blockdiff.sets.version import VersionFiles

HELD = 60 * 1024 * 1024  # bytes of decompressed members that are held at once
_COPIED = 2  # a member of less than a member's size divided by this is not copied: the new file would have too many
HINT = "nothing was written; blockdiff-verify lists what is lost and which versions still restore"


@dataclass
class Room:
    """The memory that the sources of a rewrite may take for pieces that are not needed yet."""

    most: int  # bytes of payload that one piece has at most, about
    sources: int  # each holds a piece
    ahead: int = 0  # bytes of pieces that were requested before they are needed

    def has_more(self) -> bool:
        """Return whether a piece may be decompressed before it is needed."""
        # a piece is there compressed, too, and that may be no less
        return self.sources * self.most + self.ahead + 2 * self.most <= HELD


@dataclass
class _Found:
    """What a piece has."""

    rows: list[Checked] = field(default_factory=list)  # in block order
    faults: checker.Faults = field(default_factory=checker.Faults)  # records that cannot be
    failure: FormatError | None = None  # the piece cannot be read at all


class Source:
    """The records of one version's diff file; use it as a context manager.

    `rows` are those of the piece that is held; each is of a kind as BlockChecker gives them:
    WRONG where the block has not the digest that is wanted, because a newer version has another
    record of it, or because of damage.  Raises DamagedFile, DigestMismatch, NotOurFormat or
    StoreUnreadable wherever it reads.
    """

    def __init__(
        self,
        files: VersionFiles,
        check: BlockChecker,
        wanted: blockset.Blocks,
        pool: ThreadPoolExecutor,
        room: Room,
        *,
        suffix: str | None,
        wants: Callable[[int, int], bool],
        progress: Callable[[int], object],
    ) -> None:
        """`wanted`: records of other blocks are left out; `suffix`: of the new diff file, None if there is none.

        `wants`: see DiffFile.pieces.
        """
        self._suffix = suffix
        self.path, self.version = files.diff, files.version
        self._check, self._wanted, self._pool, self._room, self._progress = check, wanted, pool, room, progress
        try:
            self._file = diffreader.DiffFile(
                files.diff, files.index, files.version, most=room.most, opener=files.open
            )
        except FileNotFoundError:
            raise MissingFile(files.diff) from None
        except OSError as error:
            raise StoreUnreadable(files.diff, error.strerror) from None
        self._pieces = self._file.pieces(wants)
        self._ahead: collections.deque[tuple[diffreader.Piece, Future[_Found]]] = collections.deque()
        self._member: MadeMember | None = None  # of these rows, if it may be copied
        self._place = 0  # of the row that is next
        self._last = -1  # the last block so far
        self.rows: list[Checked] = []

    def __enter__(self) -> "Source":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _, future in self._ahead:
            future.cancel()
        self._ahead.clear()
        self._pieces.close()  # type: ignore[attr-defined]
        self._file.__exit__(kind, error, trace)

    @property
    def read(self) -> int:
        """Bytes of the diff file that were read."""
        return self._file.read

    @property
    def first(self) -> int:
        """The block of the next row."""
        return self.rows[self._place][1]

    @property
    def end(self) -> int:
        """The block after the last that is held."""
        return self.rows[-1][2]

    def skip(self, stop: int) -> bool:
        """Leave out the rows of blocks below `stop`; return whether there are more."""
        while True:
            while self._place < len(self.rows) and self.rows[self._place][2] <= stop:
                self._place += 1
            if self._place < len(self.rows):
                kind, first, end, block = self.rows[self._place]
                if first < stop:
                    self.rows[self._place] = (kind, stop, end, block)
                    self._member = None
                return True
            if not self._advance():
                return False

    def take(self, stop: int) -> list[Checked]:
        """Return the rows of blocks below `stop`, of those that are held."""
        out = []
        while self._place < len(self.rows) and self.rows[self._place][1] < stop:
            kind, first, end, block = self.rows[self._place]
            if end > stop:
                self.rows[self._place] = (kind, stop, end, block)
                self._member = None
            else:
                self._place += 1
            out.append((kind, first, min(end, stop), block))
        return out

    def member(self) -> MadeMember | None:
        """Return the member whose rows are held if it may be copied as it is, and no row of it was taken."""
        return None if self._place else self._member

    def _advance(self) -> bool:
        """Hold the next piece that has rows; return whether there is one."""
        while True:
            self.rows, self._place, self._member = [], 0, None
            if not self._ahead and not self._request():
                return False
            piece, future = self._ahead.popleft()
            found = future.result()
            self._room.ahead -= piece.cost
            self._progress(piece.read)
            self.rows = self._sound(piece, found)
            if self.rows:
                self._member = self._copied(piece)
                if self._member is None:  # then its compressed bytes are not needed any more
                    piece.data = b""
                self._last = self.end - 1
                if self._room.has_more():
                    self._request()
                return True

    def _copied(self, piece: diffreader.Piece) -> MadeMember | None:
        """Return the member of a piece if it may be copied.

        That is one of a diff file with the new one's suffix, that is not small, and that holds nothing
        but neighbouring blocks with the digests that are wanted.
        """
        if not piece.stored or piece.skip or self.version.suffix != self._suffix:
            return None
        if piece.length < base.MEMBER_SIZE // _COPIED and piece.zeros is None:
            return None
        after, length = self.first, 0
        for kind, first, stop, block in self.rows:
            if kind == checker.WRONG or first != after:
                return None
            size = len(block) or self.version.block_size
            length += (stop - first) * (difffile.OFFSET_SIZE + size)
            after = stop
        return MadeMember(piece.data, piece.length, self.first, after - 1) if length == piece.length else None

    def _sound(self, piece: diffreader.Piece, found: _Found) -> list[Checked]:
        """Return a piece's rows; damage is raised, since it hides which blocks have records."""
        where = f"{self.path}: {piece.where}"
        if found.failure is not None:
            raise _hinted(diffreader.damage(where, found.failure))
        for line in found.faults.lines():
            raise _hinted(NotOurFormat(where, line))
        if found.rows and found.rows[0][1] <= self._last:
            raise _hinted(NotOurFormat(where, "its records are out of order"))
        return found.rows

    def _request(self) -> bool:
        """Have the next piece decompressed and checked; return whether there is one."""
        try:
            piece = next(self._pieces, None)
        except FormatError as error:
            raise _hinted(diffreader.damage(self.path, error)) from None
        except OSError as error:
            raise StoreUnreadable(self.path, error.strerror) from None
        if piece is None:
            return False
        self._room.ahead += piece.cost
        future: Future[_Found]
        if piece.cost:
            future = self._pool.submit(self._work, piece)
        else:
            future = Future()
            future.set_result(self._work(piece))
        self._ahead.append((piece, future))
        return True

    # in the pool

    def _work(self, piece: diffreader.Piece) -> _Found:
        out = _Found()
        try:
            out.rows = list(self._check.check(self._file, piece, out.faults, self._wanted))
        except FormatError as error:
            out.failure = error
        out.rows.sort(key=itemgetter(1))  # of a member of zeros those with another digest came first
        return out


def _hinted(error: BlockdiffError) -> BlockdiffError:
    error.hint = error.hint or HINT
    return error
