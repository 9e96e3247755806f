"""What a guest sends: messages of one kind each, JSON or data of a file; both ends use it."""

import json
import struct
from typing import Any

HEADER = struct.Struct(">cI")  # kind, bytes that follow
OFFSET = struct.Struct(">Q")  # before data: where in the file they are
JSON, DATA = b"J", b"D"
MOST = 1 << 20  # bytes that follow a header


def pack(kind: bytes, *parts: bytes) -> bytes:
    """Return one message."""
    return b"".join([HEADER.pack(kind, sum(map(len, parts))), *parts])


def pack_json(value: dict[str, Any]) -> bytes:
    """Return one message; names in it may have bytes that are no text."""
    return pack(JSON, json.dumps(value).encode("ascii"))
