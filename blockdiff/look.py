"""Look into a version: what its partitions and logical volumes hold, and files out of its file systems.

A kernel in user mode does all of it, so a journal is replayed, on a copy that is discarded.
"""

import os
import posixpath
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from blockdiff.errors import NothingThere, StoreUnreadable, TargetRefused
from blockdiff.guest import answers
from blockdiff.guest.answers import Data, Entry
from blockdiff.guest.machine import Guest
from blockdiff.printable import printable, quoted

MOST_TIMES = 16  # so many times the size of the volume is the most that its files can have
_LEAST = 1 << 30  # bytes that they can always have
_LEAST_NAMES = 1_000_000  # that there can always be
_INODE = 128  # bytes that a file takes at least
_MOST_LINES = 20  # of names that cannot be read
_UNCLEAN = "its file system was in use, and its journal was not replayed: newer files may be missing or wrong"


class Sink(Protocol):
    """What takes files."""

    def put(self, entry: Entry, name: str) -> str:
        """Begin an entry; return why it is left out, or ""."""

    def write(self, data: Data) -> None:
        """Take bytes of the file that was put last."""

    def remove(self) -> None:
        """Remove the file that was put last: the rest of it cannot be read."""


@dataclass(frozen=True)
class Wanted:
    """What is asked for."""

    part: int | None = None
    lv: str | None = None  # VG/LV
    paths: tuple[str, ...] = ()  # absolute; none: what is on the disk is listed
    listing: bool = False  # what is directly in a folder, no contents
    parents: bool = True  # names have the folders above, too
    as_is: bool = False  # journals are not replayed
    timeout_s: float = 300.0  # between two messages of the guest


@dataclass
class Got:
    """What was found at one path."""

    path: str
    files: int = 0
    bytes: int = 0


@dataclass
class Looked:
    """The result."""

    parts: list[answers.Volume] = field(default_factory=list)
    place: str = ""  # the partition or logical volume
    type: str = ""
    clean: bool | None = None
    got: list[Got] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def absolute(path: str) -> str:
    """Return a path of an image without anything that leads upwards."""
    return posixpath.normpath("/" + path.lstrip("/"))


def most(size: int) -> int:
    """Return how many bytes the files of a volume of that size can have."""
    return max(_LEAST, MOST_TIMES * size)


def look(
    image: str, about: tuple[int, str], wanted: Wanted, sink: Sink | None, environ: Mapping[str, str], scratch: str
) -> Looked:
    """Look into an image, and give what is asked for to `sink`.

    `about`: the version and the set, for messages.  `scratch`: folder for unnamed files, those of a replay.
    Raises NothingThere, ProgramUnfit, CommandFailed, HostSilent, ProtocolBroken or TargetRefused, and what `sink`
    raises.
    """
    try:
        fd = os.open(image, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise StoreUnreadable(image, error.strerror) from None
    try:
        size = os.lseek(fd, 0, os.SEEK_END)
        guest = Guest(fd, _request(wanted), environ, scratch)
        try:
            work = _Work(about, wanted, sink, size)
            for answer in answers.answers(guest.receive(wanted.timeout_s)):
                work.take(answer)
            if not work.ended:
                raise guest.died()
            return work.result()
        finally:
            guest.close()
    finally:
        os.close(fd)


def _request(wanted: Wanted) -> dict[str, Any]:
    mode = "map" if not wanted.paths else "list" if wanted.listing else "files"
    return {
        "mode": mode, "part": wanted.part, "lv": wanted.lv, "paths": list(wanted.paths), "as_is": wanted.as_is,
    }  # fmt: skip


class _Work:
    """What comes from the guest, on its way."""

    def __init__(self, about: tuple[int, str], wanted: Wanted, sink: Sink | None, size: int) -> None:
        self.ended = False
        self._about = about
        self._wanted = wanted
        self._sink = sink
        self._budget = most(size)
        self._names = max(_LEAST_NAMES, size // _INODE)
        self._next = 0  # of the paths
        self._looked = Looked()
        self._got: Got | None = None
        self._file = False  # data are those of a file that the sink takes
        self._left_out: Counter[str] = Counter()
        self._unread: list[str] = []
        self._absent: list[str] = []
        self._take: dict[type, Callable[[Any], None]] = {
            answers.Map: self._map, answers.Mounted: self._mounted, answers.Path: self._path,
            answers.Absent: self._is_absent, Entry: self._entry, Data: self._data, answers.Unread: self._is_unread,
            answers.Failed: self._failed, answers.End: self._end,
        }  # fmt: skip

    def take(self, answer: answers.Answer) -> None:
        """Take one answer."""
        if type(answer) not in self._take:
            raise answers.broken("a step of a drill")
        self._take[type(answer)](answer)

    def result(self) -> Looked:
        """Return what was found.  Raises NothingThere if a path was not."""
        if self._absent:
            raise NothingThere(f"{', '.join(self._absent)} in {quoted(self._looked.place)}", *self._about)
        warnings = self._looked.warnings
        warnings += self._unread[:_MOST_LINES]
        if len(self._unread) > _MOST_LINES:
            warnings.append(f"{len(self._unread) - _MOST_LINES} more names cannot be read")
        warnings += [f"left out: {count} {what}" for what, count in sorted(self._left_out.items())]
        return self._looked

    def _map(self, answer: answers.Map) -> None:
        self._looked.parts = answer.parts

    def _mounted(self, answer: answers.Mounted) -> None:
        self._looked.place, self._looked.type, self._looked.clean = answer.place, answer.type, answer.clean
        if self._wanted.as_is and answer.clean is not True:
            self._looked.warnings.append(f"{printable(answer.place)}: {_UNCLEAN}")

    def _path(self, answer: answers.Path) -> None:
        self._got = Got(self._operand(answer.index))
        self._looked.got.append(self._got)

    def _is_absent(self, answer: answers.Absent) -> None:
        self._absent.append(self._operand(answer.index))

    def _operand(self, index: int) -> str:
        if index != self._next or index >= len(self._wanted.paths):
            raise answers.broken("a path that was not asked for")
        self._next += 1
        return self._wanted.paths[index]

    def _entry(self, entry: Entry) -> None:
        if self._got is None or self._sink is None:
            raise answers.broken("a name of no path")
        wanted = self._got.path.strip("/")
        if wanted and entry.name != wanted and not entry.name.startswith(wanted + "/"):
            raise answers.broken("a name of another path")
        self._names -= 1
        if self._names < 0:
            raise TargetRefused("files", "there are more than the volume can have")
        above = len(posixpath.dirname(wanted))
        name = entry.name if self._wanted.parents else entry.name[above:].lstrip("/")
        why = self._sink.put(entry, name)
        if why:
            self._left_out[why] += 1
        elif entry.type != "dir":
            self._got.files += 1
            self._got.bytes += entry.size
        self._file = entry.type == "file" and not why

    def _data(self, data: Data) -> None:
        if self._file and self._sink is not None:
            self._budget -= len(data.content)
            if self._budget < 0:
                raise TargetRefused("files", f"they have more than {MOST_TIMES} times the size of the volume")
            self._sink.write(data)

    def _is_unread(self, answer: answers.Unread) -> None:
        if self._file and self._sink is not None:
            self._sink.remove()
        self._file = False
        if len(self._unread) < _MOST_LINES * 1000:
            self._unread.append(f"cannot read {printable(answer.name)}: {printable(answer.text)}")

    def _failed(self, answer: answers.Failed) -> None:
        raise answers.error_of(answer, self._about)

    def _end(self, answer: answers.End) -> None:
        self.ended = True
