"""The manifest, NAME.N.json: what makes a version provable.

One JSON object in canonical form: sorted keys, no spaces, UTF-8, one newline.  Its
`self_sha256` is taken over the canonical form without that key, so that any damage to
the file shows.  Unknown keys are kept; a higher `format` is refused.
Format: blockdiff-formats(5), "Manifest".
"""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from blockdiff.formats import FormatError, check_block_size

FORMAT = 1
MAX_SIZE = 1024 * 1024  # bytes; a manifest is a few KiB


def _canonical(value: dict[str, Any]) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace") + b"\n"


@dataclass(frozen=True)
class StoredFile:
    """What one file of a version must be."""

    size: int  # bytes
    sha256: str  # hex


@dataclass(frozen=True)
class Manifest:
    """A version's manifest; the fields that decide something are attributes, all are in `value`."""

    version: int
    kind: str  # "full" or "incremental"
    parent: int | None
    parent_md5_sha256: str | None
    size: int | None  # bytes of the volume, None where nobody knew it
    block_size: int  # bytes
    files: dict[str, StoredFile]  # by suffix; the plain diff file's is ""
    value: dict[str, Any] = field(repr=False, compare=False)

    @property
    def full(self) -> bool:
        """Whether the version needs no other one."""
        return self.kind == "full"


def encode(value: dict[str, Any]) -> bytes:
    """Return the file's bytes; `self_sha256` is put in, everything else must be there."""
    bare = {key: item for key, item in value.items() if key != "self_sha256"}
    whole = dict(bare, self_sha256=hashlib.sha256(_canonical(bare)).hexdigest())
    data = _canonical(whole)
    decode(data)  # what cannot be read back is never written
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


def decode(data: bytes) -> Manifest:
    """Return the manifest that data holds.

    Raises FormatError if it is not canonical, its own hash is wrong, a field that decides
    something is missing, or its format is newer than this program.
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
        raise FormatError("manifest does not have the hash that it says it has")
    if _number(value, "format", 1) > FORMAT:
        raise FormatError(f"manifest is of format {value['format']}, newer than this program knows")
    kind = _wants(value, "kind", str)
    if kind not in ("full", "incremental"):
        raise FormatError(f"manifest says kind {kind!r}")
    version = _number(value, "version", 1)
    parent = _number(value, "parent", 1) if value.get("parent") is not None else None
    if (kind == "full") != (parent is None) or (parent is not None and parent != version - 1):
        raise FormatError(f"manifest of a {kind} version names parent {parent}")
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
    )
