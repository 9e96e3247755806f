"""A logical volume that waits for the moment of its snapshot, as its agent describes it.

Format: blockdiff-protocol(5), "Messages".
"""

from dataclasses import dataclass

from blockdiff.formats import Buffer, FormatError
from blockdiff.wire import messages


@dataclass(frozen=True)
class Prepared:
    """A logical volume that can be snapshotted."""

    size: int  # bytes
    kind: str  # "lvm-thick" or "lvm-thin"
    lv_uuid: str
    same: bool  # the request's known path leads to it
    room: int | None  # bytes for the snapshot; None for a thin one


def decode_prepared(payload: Buffer) -> Prepared:
    """Return the volume that a READY describes.  Raises FormatError."""
    found = messages.decode_talk(payload, size=int, kind=str, lv_uuid=str, same=bool, room=(int, type(None)))
    if found["size"] < 0 or (found["room"] or 0) < 0 or found["kind"] not in ("lvm-thick", "lvm-thin"):
        raise FormatError("an impossible volume")
    if len(found["lv_uuid"]) > 64 or not found["lv_uuid"].isprintable():
        raise FormatError("an invalid UUID")
    return Prepared(found["size"], found["kind"], found["lv_uuid"], found["same"], found["room"])
