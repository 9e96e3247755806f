"""Frames of the wire: u8 kind, u32 length of the payload in bytes, the payload.

Format: blockdiff-protocol(5), "Frames".
"""

import collections
import struct
from typing import Deque, Optional, Tuple, Union

from blockdiff.formats import FormatError, TornError

_HEADER = struct.Struct("<BI")
HEADER_SIZE = _HEADER.size  # bytes
MAX_PAYLOAD = 1024 * 1024 + 1024  # bytes; more is refused before memory is spent on it


def encode_header(kind: int, length: int) -> bytes:
    """Return the first bytes of a frame whose payload of length bytes follows."""
    if length > MAX_PAYLOAD:
        raise FormatError("frame of %d bytes is longer than %d" % (length, MAX_PAYLOAD))
    return _HEADER.pack(kind, length)


def encode(kind: int, payload: Union[bytes, bytearray, memoryview]) -> bytes:
    """Return a whole frame."""
    return b"".join((encode_header(kind, len(payload)), payload))


class Decoder:
    """Turn received bytes into frames, however they were split."""

    def __init__(self) -> None:
        self._parts: Deque[memoryview] = collections.deque()
        self._length = 0
        self._kind: Optional[int] = None  # of the frame under way
        self._wanted = HEADER_SIZE  # bytes until the next step

    def feed(self, data: Union[bytes, bytearray, memoryview]) -> None:
        """Take bytes as they came from the transport; they must not change afterwards."""
        if data:
            self._parts.append(memoryview(data))
            self._length += len(data)

    def missing(self) -> int:
        """Return how many bytes are needed until `next` can return more; at least 0."""
        return max(0, self._wanted - self._length)

    def _cut(self, size: int) -> memoryview:
        self._length -= size
        first = self._parts[0]
        if len(first) > size:
            self._parts[0] = first[size:]
            # most of the received bytes: they are not copied.  A small part is copied, since it
            # may wait for long and would keep all of them in memory
            return first[:size] if 2 * size > memoryview(first.obj).nbytes else memoryview(bytes(first[:size]))
        if len(first) == size:
            return self._parts.popleft()
        whole = bytearray()
        while size:
            part = self._parts[0]
            whole += part[:size]
            if len(part) > size:
                self._parts[0] = part[size:]
                break
            size -= len(part)
            self._parts.popleft()
        return memoryview(whole)

    def next(self) -> Optional[Tuple[int, memoryview]]:
        """Return the next (kind, payload as a memoryview), or None if more bytes are needed.

        Raises FormatError if a frame announces more than MAX_PAYLOAD bytes.
        """
        if self._length < self._wanted:
            return None
        if self._kind is None:
            self._kind, length = _HEADER.unpack(self._cut(HEADER_SIZE))
            if length > MAX_PAYLOAD:
                raise FormatError("frame announces %d bytes, more than %d" % (length, MAX_PAYLOAD))
            self._wanted = length
            if self._length < length:
                return None
        kind, payload = self._kind, self._cut(self._wanted) if self._wanted else memoryview(b"")
        self._kind, self._wanted = None, HEADER_SIZE
        return kind, payload

    def close(self) -> None:
        """Declare end of input; raises TornError if it ended inside a frame."""
        if self._length or self._kind is not None:
            raise TornError("input ended %d bytes into a frame" % self._length)
