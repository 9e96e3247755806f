"""Payloads of the wire's frames: values to bytes and back, every bound checked.

A message is one JSON object; extents and data have a fixed layout.  Nothing is trusted when
decoding: a wrong type, a count that does not add up or a length over its bound is a FormatError.
Format: blockdiff-protocol(5), "Messages".
"""

import json
import struct
from typing import Any, Dict, Iterable, List, NamedTuple, Tuple

from blockdiff.formats import BYTES_OF_DIGEST, Buffer, FormatError
from blockdiff.wire import frames

PROTOCOL = 2
SYNC_MARK = b"\0\0blockdiff agent is here\0\n"  # banners before it are skipped

# kind of frame        from    carries
HELLO = 1  #           agent   JSON: the agent's versions and what its host has
REQUEST = 2  #         server  JSON: what to do
OPENED = 3  #          agent   JSON: the volume is open; its size
DIGESTS = 4  #         both    digests of the parent version, or of a target, in block order
EXTENT = 5  #          agent   which of the next blocks are the same, zero or changed
DATA = 6  #            both    a piece of the changed blocks of the extent, or the place, before it
END = 7  #             both    JSON: counts, digest of all digests
FAILED = 8  #          agent   JSON: why there will be no END
NOTE = 9  #            agent   JSON: a line for the log
PING = 10  #           both    nothing: a sign of life
CREDIT = 11  #         both    u32: so many bytes of metered frames may be sent again
READY = 12  #          agent   JSON: a snapshot of this volume is prepared
NOW = 13  #            server  JSON: make the snapshot now; where the locked application keeps its data
LEFT = 14  #           agent   JSON: what could not be removed from the host; after END
FREE = 15  #           server  u64s: these places of the shared memory have been copied
TAKEN = 16  #          agent   JSON: the snapshot is made; its lock may be released
TARGET = 17  #         agent   JSON: what is at the target of a restore now
GO = 18  #             server  nothing: the target may be written
PLACE = 19  #          server  which blocks of the target the DATA after it is
PLACED = 20  #         agent   u64: so many bytes are written and on the disk; a sign of progress
AGAIN = 21  #           agent   JSON: a hint was wrong at this offset; the whole volume comes from its first block on
KEEP = 22  #            server  JSON: the version is published; its snapshot becomes the base for the next one
METERED = frozenset((DIGESTS, EXTENT, DATA, PLACE))  # kinds that are sent on credit only

MAX_TALK = 64 * 1024  # bytes of a JSON message
MAX_DIGESTS = 512 * 1024  # bytes of one DIGESTS frame
MAX_DATA = 1024 * 1024  # bytes of one DATA frame, once decompressed
MAX_RUNS = 8192  # in one extent
MAX_LISTED = 16384  # blocks of one extent whose digests are listed
MAX_COUNT = 1 << 20  # blocks of one extent


SAME, ZERO, CHANGED = 0, 1, 2  # kinds of runs of blocks

RAW, ZLIB, ZSTD = 0, 1, 2  # compression of a DATA frame
SHARED = 3  # its bytes are in shared memory

_CREDIT = struct.Struct("<I")
_PLACE = struct.Struct("<Q")
_DATA = struct.Struct("<BI")
_EXTENT = struct.Struct("<QIHB")
_RUN = struct.Struct("<BI")


def encode_talk(value: Dict[str, Any]) -> bytes:
    """Return a JSON message."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")


def decode_talk(payload: Buffer, **fields: Any) -> Dict[str, Any]:
    """Return the JSON object in payload; each of `fields` must be there and of the type(s) given.

    A tuple of types may have type(None).  Keys that are not named are kept.  Raises FormatError.
    """
    if len(payload) > MAX_TALK:
        raise FormatError("message of %d bytes is longer than %d" % (len(payload), MAX_TALK))
    try:
        value = json.loads(bytes(payload).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise FormatError("message is not JSON: %s" % error) from None
    if not isinstance(value, dict):
        raise FormatError("message is not a JSON object")
    return check(value, **fields)


def check(value: Dict[str, Any], **fields: Any) -> Dict[str, Any]:
    """Return a JSON object in which each of `fields` is there and of the type(s) given.  Raises FormatError."""
    for name, types in fields.items():
        found = value.get(name)
        wanted = types if isinstance(types, tuple) else (types,)
        if name not in value or not isinstance(found, wanted) or (isinstance(found, bool) and bool not in wanted):
            raise FormatError("message has no usable %r" % name)
        if isinstance(found, (int, float)) and not -(1 << 63) <= found < 1 << 64:  # NaN is in no range
            raise FormatError("message has a number out of range at %r" % name)
    return value


def encode_credit(length: int) -> bytes:
    """Return a credit of length bytes."""
    return _CREDIT.pack(length)


def decode_credit(payload: Buffer) -> int:
    """Return how many bytes a credit gives.  Raises FormatError."""
    if len(payload) != _CREDIT.size:
        raise FormatError("credit of %d bytes" % len(payload))
    return int(_CREDIT.unpack(payload)[0])


def encode_places(places: Iterable[int]) -> bytes:
    """Return places in shared memory, each in bytes from its begin."""
    return b"".join(_PLACE.pack(place) for place in places)


def decode_places(payload: Buffer) -> List[int]:
    """Return at least one place in shared memory.  Raises FormatError."""
    if not payload or len(payload) % _PLACE.size or len(payload) > MAX_TALK:
        raise FormatError("places of %d bytes" % len(payload))
    return [place for place, in _PLACE.iter_unpack(payload)]


def encode_data_header(codec: int, length: int) -> bytes:
    """Return the beginning of a DATA frame: its compression, its length without compression."""
    return _DATA.pack(codec, length)


def decode_data(payload: Buffer) -> Tuple[int, int, Buffer]:
    """Return (codec, length in bytes once decompressed, bytes) of a DATA frame.

    Raises FormatError; the length is within MAX_DATA, so a decompressor may be bounded by it.
    """
    if len(payload) < _DATA.size:
        raise FormatError("data frame without a header")
    codec, length = _DATA.unpack_from(payload)
    if codec not in (RAW, ZLIB, ZSTD, SHARED):
        raise FormatError("unknown wire compression %d" % codec)
    if not 1 <= length <= MAX_DATA:
        raise FormatError("data of %d bytes is not between 1 and %d" % (length, MAX_DATA))
    body = payload[_DATA.size :]
    if codec == RAW and len(body) != length:
        raise FormatError("data is %d bytes, announced were %d" % (len(body), length))
    return codec, length, body


Extent = NamedTuple(
    "Extent",
    [
        ("first", int),  # index of the first block
        ("runs", List[Tuple[int, int]]),  # (SAME | ZERO | CHANGED, count of blocks), in block order
        ("digests", bytes),  # of the CHANGED blocks, in block order; of the request's kind
        ("other_digests", bytes),  # of all blocks, of the other kind; empty unless asked for
    ],
)


def encode_extent(extent: Extent) -> bytes:
    """Return the bytes of an extent."""
    count = sum(length for _, length in extent.runs)
    head = _EXTENT.pack(extent.first, count, len(extent.runs), 1 if extent.other_digests else 0)
    runs = b"".join(_RUN.pack(what, length) for what, length in extent.runs)
    return head + runs + extent.digests + extent.other_digests


def decode_extent(payload: Buffer, expected: int, total: int) -> Extent:
    """Return the extent in payload, which must begin at block `expected` of `total`.

    Raises FormatError.
    """
    if len(payload) < _EXTENT.size:
        raise FormatError("extent without a header")
    first, count, run_count, flags = _EXTENT.unpack_from(payload)
    if first != expected:
        raise FormatError("extent begins at block %d, expected %d" % (first, expected))
    if not 1 <= count <= min(MAX_COUNT, total - first):
        raise FormatError("extent of %d blocks at block %d of %d" % (count, first, total))
    if not 1 <= run_count <= MAX_RUNS or flags > 1:
        raise FormatError("extent of %d runs" % run_count)
    place = _EXTENT.size + run_count * _RUN.size
    if len(payload) < place:
        raise FormatError("extent ends inside its runs")
    runs = list(_RUN.iter_unpack(payload[_EXTENT.size : place]))
    changed = 0
    for what, length in runs:
        if what not in (SAME, ZERO, CHANGED) or length < 1:
            raise FormatError("run of kind %d, %d blocks" % (what, length))
        changed += length if what == CHANGED else 0
    if sum(length for _, length in runs) != count:
        raise FormatError("runs do not add up to the extent's %d blocks" % count)
    if changed > MAX_LISTED or (flags and count > MAX_LISTED):
        raise FormatError("extent lists more than %d digests" % MAX_LISTED)
    middle = place + changed * BYTES_OF_DIGEST
    end = middle + (count * BYTES_OF_DIGEST if flags else 0)
    if len(payload) != end:
        raise FormatError("extent of %d bytes, expected %d" % (len(payload), end))
    return Extent(first, runs, bytes(payload[place:middle]), bytes(payload[middle:end]))


assert _EXTENT.size + MAX_RUNS * _RUN.size + 2 * MAX_LISTED * BYTES_OF_DIGEST <= frames.MAX_PAYLOAD
