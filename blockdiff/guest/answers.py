"""What a guest's messages say, checked: a file system that nobody trusts may have taken the guest over."""

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from blockdiff.errors import BlockdiffError, CommandFailed, NothingThere, ProtocolBroken
from blockdiff.guest import messages
from blockdiff.printable import quoted

TYPES = frozenset(("file", "dir", "symlink", "link", "char", "block", "fifo", "socket"))
_MOST_NAMES = 4096  # bytes of a path, its end included
_MOST_VOLUMES = 10_000


@dataclass(frozen=True)
class Volume:
    """What is in a partition, a logical volume or the whole disk."""

    part: int | None
    vg: str
    lv: str
    type: str  # "": not known
    label: str
    size: int  # bytes
    holds: list["Volume"] = field(default_factory=list)


@dataclass(frozen=True)
class Map:
    """What is on the disk."""

    parts: list[Volume]


@dataclass(frozen=True)
class Mounted:
    """What follows is of this file system."""

    place: str
    type: str
    clean: bool | None  # nothing was left to replay; None: not known


@dataclass(frozen=True)
class Path:
    """What follows is of the path with this index."""

    index: int


@dataclass(frozen=True)
class Absent:
    """There is nothing at the path with this index."""

    index: int
    text: str


@dataclass(frozen=True)
class Entry:
    """A file, a folder or something else with a name."""

    name: str  # of components that are names, without a slash at either end; "": the root folder
    type: str
    mode: int
    uid: int
    gid: int
    mtime: int  # nanoseconds
    size: int  # bytes, of a file
    target: str  # of a symlink; for "link": the name of an earlier file that this one is
    shared: bool  # a later link may name it
    device: tuple[int, int]


@dataclass(frozen=True)
class Data:
    """Bytes of the file that was the last entry; what is between them is zeros."""

    offset: int
    content: bytes


@dataclass(frozen=True)
class Unread:
    """This name, or the rest of it, cannot be read."""

    name: str
    text: str


@dataclass(frozen=True)
class Step:
    """How a step of a drill ended."""

    step: str
    seconds: float
    text: str
    failed: bool


@dataclass(frozen=True)
class Failed:
    """The guest could not do it."""

    why: str  # nothing, several, unreadable or guest
    text: str


@dataclass(frozen=True)
class End:
    """All was sent."""


Answer: TypeAlias = Map | Mounted | Path | Absent | Entry | Data | Unread | Step | Failed | End


def answers(received: Iterable[tuple[bytes, bytes]]) -> Iterator[Answer]:
    """Yield what messages say.  Raises ProtocolBroken for anything that no guest of ours sends."""
    file: Entry | None = None
    place = 0  # data are in ascending order
    for kind, content in received:
        answer: Answer
        if kind == messages.DATA:
            answer = _data(content)
            end = answer.offset + len(answer.content)
            if file is None or answer.offset < place or end > file.size:
                raise broken("data of no file")
            place = end
        else:
            answer = _decode(content)
            file = answer if isinstance(answer, Entry) and answer.type == "file" else None
            place = 0
        yield answer


def _data(content: bytes) -> Data:
    if len(content) <= messages.OFFSET.size:
        raise broken("data without bytes")
    return Data(messages.OFFSET.unpack_from(content)[0], content[messages.OFFSET.size :])


def _decode(content: bytes) -> Answer:
    try:
        value = json.loads(content)
        if not isinstance(value, dict):
            raise TypeError
        return _of_kind(value)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise broken("a message that is not understood") from None


def _of_kind(value: dict[str, Any]) -> Answer:
    kind = value["kind"]
    if kind == "map":
        return Map([_volume(each, deep=True) for each in _list(value["parts"])])
    if kind == "mounted":
        clean = value["clean"]
        return Mounted(_text(value["place"]), _text(value["type"]), clean if clean is None else _is(clean, bool))
    if kind == "path":
        return Path(_number(value["path"]))
    if kind == "absent":
        return Absent(_number(value["path"]), _text(value["text"]))
    if kind == "entry":
        return _entry(value)
    if kind == "unread":
        return Unread(_name(value["name"]), _text(value["text"]))
    if kind == "step":
        seconds, failed = _seconds(value["seconds"]), _is(value["failed"], bool)
        return Step(_text(value["step"]), seconds, _text(value["text"]), failed)
    if kind == "failed":
        return Failed(_text(value["why"]), _text(value["text"]))
    if kind == "end":
        return End()
    raise ValueError


def _volume(value: Any, deep: bool) -> Volume:
    holds = [_volume(each, deep=False) for each in _list(value["holds"])] if deep else []
    part = value["part"]
    return Volume(
        part if part is None else _number(part), _text(value["vg"]), _text(value["lv"]), _text(value["type"]),
        _text(value["label"]), _number(value["size"]), holds,
    )  # fmt: skip


def _entry(value: dict[str, Any]) -> Entry:
    kind = _text(value["type"])
    major, minor = _list(value["device"])
    if kind not in TYPES:
        raise ValueError
    return Entry(
        _name(value["name"]), kind, _number(value["mode"], 0o7777), _number(value["uid"], 2**32),
        _number(value["gid"], 2**32), _is(value["mtime"], int), _number(value["size"]),
        _name(value["target"]) if kind == "link" else _text(value["target"]), _is(value["shared"], bool),
        (_number(major, 2**32), _number(minor, 2**32)),
    )  # fmt: skip


def _name(value: Any) -> str:
    """Return a path that leads nowhere but down."""
    text = _text(value)
    if len(text.encode("utf-8", "surrogateescape")) >= _MOST_NAMES:
        raise ValueError
    if text and not {"", ".", ".."}.isdisjoint(text.split("/")):
        raise ValueError
    return text


def _text(value: Any) -> str:
    text: str = _is(value, str)
    text.encode("utf-8", "surrogateescape")  # raises ValueError if no bytes can be meant
    if "\0" in text or len(text) > _MOST_NAMES:
        raise ValueError
    return text


def _number(value: Any, most: int = 2**63 - 1) -> int:
    number: int = _is(value, int)
    if not 0 <= number <= most:
        raise ValueError
    return number


def _seconds(value: Any) -> float:
    number: float = _is(value, float)
    if not 0 <= number < math.inf:
        raise ValueError
    return number


def _is(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError
    return value


def _list(value: Any) -> list[Any]:
    found: list[Any] = _is(value, list)
    if len(found) > _MOST_VOLUMES:
        raise ValueError
    return found


def error_of(answer: Failed, about: tuple[int, str]) -> BlockdiffError:
    """Return the error for what a guest could not do; `about`: the version and the set, for the message."""
    text = quoted(answer.text.strip().rpartition("\n")[2])
    if answer.why == "nothing":
        return NothingThere(text, *about, hint="blockdiff-look NAME shows what there is")
    if answer.why == "several":
        return NothingThere(
            f"single file system, but several ({text}),", *about, hint="name one with --part or --lv"
        )
    if answer.why == "unreadable":
        return NothingThere(f"file system that can be read ({text})", *about)
    return CommandFailed("the guest", text)


def broken(what: str) -> ProtocolBroken:
    """Return the error for something that no guest of ours sends."""
    return ProtocolBroken("the guest", what)
