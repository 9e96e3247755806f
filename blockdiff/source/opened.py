"""A volume that the agent has opened, as it describes it.

Format: blockdiff-protocol(5), "Messages".
"""

from dataclasses import dataclass
from typing import Any

from blockdiff.formats import Buffer, FormatError, digestfile
from blockdiff.printable import printable
from blockdiff.wire import messages

_KINDS = ("file", "block", "lvm-thick", "lvm-thin")


@dataclass(frozen=True)
class Opened:
    """A volume that the agent has opened."""

    size: int  # bytes
    kind: str  # "file", "block", "lvm-thick" or "lvm-thin"
    lv_uuid: str | None = None
    snapshot: dict[str, Any] | None = None  # name, size in bytes or None, fill in percent
    holds: bool = False  # the application that was locked has all its data on it
    same: bool = False  # the request's known path leads to it
    users: str | None = None  # what may write to it while it is read


def decode_opened(payload: Buffer, block_size: int) -> Opened:
    """Return the volume that an OPENED describes.  Raises FormatError."""
    found = messages.decode_talk(payload, size=int, kind=str, same=bool, users=(str, type(None)))
    if not 0 <= found["size"] < 1 << 63 or found["kind"] not in _KINDS:
        raise FormatError(f"a volume of {found['size']} bytes and kind {printable(found['kind'], 40)}")
    if digestfile.blocks_of(found["size"], block_size) > 1 << 56:
        raise FormatError("too many blocks")
    uuid, snapshot = None, None
    if found["kind"].startswith("lvm"):
        messages.decode_talk(payload, lv_uuid=str, snapshot=dict, holds=(bool, type(None)))
        uuid = printable(found["lv_uuid"], 64)
        snapshot = _snapshot(found["snapshot"])
    users = printable(found["users"], 500) if found["users"] else None
    return Opened(found["size"], found["kind"], uuid, snapshot, found.get("holds") is True, found["same"], users)


def _snapshot(value: dict[str, Any]) -> dict[str, Any]:
    checked = messages.check(value, name=str, size=(int, type(None)), fill=(int, float))
    return {"name": printable(checked["name"], 300), "size": checked["size"], "fill": float(checked["fill"])}
