"""The manifest, NAME.N.json, by which a version can be verified.

One JSON object in canonical form: sorted keys, no spaces, UTF-8, one newline.  Its
`self_sha256` is computed of the canonical form without that key, so that any damage to
the file is found.  Unknown keys are kept; a higher `format` is refused.  Format 2 is written
only where a version continues another one than the one before it, so that a program that
knows format 1 alone can read all other versions.
Format: blockdiff-formats(5), "Manifest".
"""

import builtins
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from blockdiff.formats import FormatError, check_block_size

FORMAT = 2  # the newest that this program knows
MAX_SIZE = 1024 * 1024  # bytes; a manifest is a few KiB


class NewerFormat(FormatError):
    """A whole manifest is of a format that a later version of this program made."""


def _canonical(value: dict[str, Any]) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace") + b"\n"


@dataclass(frozen=True)
class StoredFile:
    """The size and hash that one file of a version must have."""

    size: int  # bytes
    sha256: str  # hex


@dataclass(frozen=True)
class Rewritten:
    """What is kept of a version whose diff file was made anew from stored ones."""

    at: str  # UTC, ISO 8601
    blockdiff: str  # version of the program that did it
    kind: str  # before
    parent: int | None  # before
    versions: tuple[int, int]  # the first and the last one that it was made from
    bytes_read: int


@dataclass(frozen=True)
class Manifest:
    """A version's manifest; the fields that decide something are attributes, all are in `value`."""

    version: int
    kind: str  # "full" or "incremental"
    parent: int | None
    parent_md5_sha256: str | None
    size: int | None  # bytes of the volume, None if it was not known
    block_size: int  # bytes
    files: dict[str, StoredFile]  # by suffix; the plain diff file's is ""
    value: dict[str, Any] = field(repr=False, compare=False)
    rewritten: Rewritten | None = None

    @property
    def full(self) -> bool:
        """Whether the version needs no other one."""
        return self.kind == "full"


@dataclass(frozen=True)
class Source:
    """The volume that a version is of; None: not known."""

    host: str | None
    path: str | None
    kind: str | None
    size: int | None  # bytes
    lv_uuid: str | None


@dataclass(frozen=True)
class Blocks:
    """How many blocks a volume has, and how many of them the version stores."""

    total: int
    changed: int
    zero: int


@dataclass(frozen=True)
class Transfer:
    """How many bytes a run moved; None: not known."""

    read: int | None  # from the volume
    payload: int  # of the diff file, before compression
    wire: int | None  # from the agent


@dataclass(frozen=True)
class Snapshot:
    """The snapshot that was read; its sizes are in bytes, its fill in percent, None: not known."""

    name: str
    size: int | None
    fill_at_begin: float | None
    fill_at_end: float | None
    extended: int | None


@dataclass(frozen=True)
class Agent:
    """The agent that read the volume."""

    python: str
    digest: str  # that it compared: "md5" or "xxh128"
    codec: str  # of the wire
    sha256: str  # of its bundle, in hex


@dataclass(frozen=True)
class Hint:
    """How a version was read of which not all blocks were read, since the volume's pool knows more of it."""

    method: str  # "thin_delta": what changed since the parent; "mappings": what the volume has
    blocks: int  # that were read for it
    audited: int  # further ones that were read to check it
    wrong: int | None  # offset in bytes of a block that it left out: then the whole volume was read


@dataclass(frozen=True)
class NewManifest:
    """What is known of a version before its files are complete.  The names of the fields are the keys."""

    blockdiff: str  # the program's version
    set: str
    version: int
    parent: int | None  # None: it is a full
    parent_md5_sha256: str | None
    begun: str  # UTC, ISO 8601
    ended: str
    source: Source
    block_size: int  # bytes
    blocks: Blocks
    bytes: Transfer
    consistency: str = "none"  # or "crash", "application"
    quiesce: dict[str, Any] | None = None  # what the lock command reported
    snapshot: Snapshot | None = None
    agent: Agent | None = None
    moment: str | None = None  # the same in all sets that were backed up at one moment
    command: str | None = None  # the name of the program that read the volume instead of an agent
    hint: Hint | None = None  # None: the whole volume was read

    @property
    def kind(self) -> str:
        """Return "full" or "incremental"."""
        return "full" if self.parent is None else "incremental"

    def encode(self, files: Mapping[str, StoredFile], diff_suffix: str) -> builtins.bytes:
        """Return the bytes of the version's manifest.  Raises FormatError.

        `files`: all files of the version but this one, by suffix; the diff file has `diff_suffix`.
        """
        value = asdict(self)
        for key in ("command", "hint", "moment"):
            if value[key] is None:
                del value[key]
        value |= {"format": format_of(self.version, self.parent), "kind": self.kind}
        value["files"] = {key: asdict(file) for key, file in files.items()}
        value["bytes"]["stored"] = files[diff_suffix].size
        return encode(value)


def format_of(version: int, parent: int | None) -> int:
    """Return the format that the manifest of a version with this parent is written in."""
    return 1 if parent in (None, version - 1) else 2


def encode(value: dict[str, Any]) -> bytes:
    """Return the file's bytes; `self_sha256` is added, all other keys must be given."""
    bare = {key: item for key, item in value.items() if key != "self_sha256"}
    whole = dict(bare, self_sha256=hashlib.sha256(_canonical(bare)).hexdigest())
    data = _canonical(whole)
    decode(data)  # a manifest that cannot be read is never written
    return data


def _wants(value: dict[str, Any], name: str, *types: type) -> Any:
    found = value.get(name)
    if not isinstance(found, types) or isinstance(found, bool):
        raise FormatError(f"manifest has no usable {name!r}")
    return found


def _number(value: dict[str, Any], name: str, least: int = 0) -> int:
    found = _wants(value, name, int)
    if not least <= found < 1 << 63:
        raise FormatError(f"manifest has {name!r} out of range")
    return int(found)


def _sha256(value: dict[str, Any], name: str) -> str:
    found = _wants(value, name, str)
    if len(found) != 64 or found.strip("0123456789abcdef"):
        raise FormatError(f"manifest has no usable {name!r}")
    return str(found)


def _base(value: dict[str, Any], version: int) -> tuple[str, int | None]:
    """Return the kind and the parent that are in `value`, of this version."""
    kind = _wants(value, "kind", str)
    if kind not in ("full", "incremental"):
        raise FormatError(f"manifest has the unknown kind {kind!r}")
    parent = _number(value, "parent", 1) if value.get("parent") is not None else None
    if (kind == "full") != (parent is None) or (parent is not None and parent >= version):
        raise FormatError(f"manifest of a {kind} version names parent {parent}")
    return kind, parent


def _rewritten(value: dict[str, Any], version: int) -> Rewritten | None:
    if "rewritten" not in value:
        return None
    told = _wants(value, "rewritten", dict)
    made_from = _wants(told, "versions", list)
    if len(made_from) != 2 or any(type(n) is not int for n in made_from):
        raise FormatError("manifest has no usable 'versions'")
    first, last = made_from
    if not 1 <= first <= last <= version:
        raise FormatError("manifest has 'versions' out of range")
    kind, parent = _base(told, version)
    at, program = _wants(told, "at", str), _wants(told, "blockdiff", str)
    return Rewritten(at, program, kind, parent, (first, last), _number(told, "bytes_read"))


def decode(data: bytes) -> Manifest:
    """Return the manifest in data.

    Raises FormatError if it is not canonical, its own hash is wrong, or a field that decides
    something is missing; NewerFormat if its format is newer than this program.
    """
    if len(data) > MAX_SIZE:
        raise FormatError(f"manifest is larger than {MAX_SIZE} bytes")
    try:
        value = json.loads(data.decode("utf-8"))
        canonical = isinstance(value, dict) and _canonical(value) == data
    except (ValueError, RecursionError) as error:
        raise FormatError(f"manifest is not JSON: {error}") from None
    if not canonical:
        raise FormatError("manifest is not in canonical form")
    bare = {key: item for key, item in value.items() if key != "self_sha256"}
    if hashlib.sha256(_canonical(bare)).hexdigest() != value.get("self_sha256"):
        raise FormatError("manifest does not have the hash that is in it")
    if _number(value, "format", 1) > FORMAT:
        raise NewerFormat(f"manifest is of format {value['format']}, newer than this program knows")
    version = _number(value, "version", 1)
    kind, parent = _base(value, version)
    if value["format"] < format_of(version, parent):
        raise FormatError(f"manifest of format {value['format']} names parent {parent} of version {version}")
    source = _wants(value, "source", dict)
    files = {}
    for suffix, entry in _wants(value, "files", dict).items():
        if not isinstance(entry, dict):
            raise FormatError(f"manifest has no usable entry for file {suffix!r}")
        files[suffix] = StoredFile(_number(entry, "size"), _sha256(entry, "sha256"))
    if ".md5" not in files:
        raise FormatError("manifest names no digest file")
    return Manifest(
        version=version,
        kind=kind,
        parent=parent,
        parent_md5_sha256=None if parent is None else _sha256(value, "parent_md5_sha256"),
        size=None if source.get("size") is None else _number(source, "size"),
        block_size=check_block_size(_number(value, "block_size", 1)),
        files=files,
        value=value,
        rewritten=_rewritten(value, version),
    )
