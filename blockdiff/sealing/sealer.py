"""Seal a stream, or a few bytes, for recipients.

In the process itself: the library releases Python's lock, and seals several times as fast as any network or
disk takes it. A file whose writer ended early has no last chunk, and no reader takes it for whole.
"""

import os
from collections.abc import Callable, Sequence

from blockdiff.formats import Buffer
from blockdiff.sealing import header, payload
from blockdiff.sealing.keys import Recipient
from blockdiff.sealing.payload import CHUNK, NONCE

_AT_ONCE = 64 * CHUNK  # bytes sealed at a time: what is held of a large piece beside it


class Sealer:
    """Seals what is written to it; `sink` gets the sealed file in pieces of 4 MiB at most, in order.

    A piece is the sink's to keep. What the sink raises passes through; the file is then never finished.
    """

    def __init__(self, recipients: Sequence[Recipient], sink: Callable[[Buffer], object]) -> None:
        """Write the header.  Raises ValueError without recipients."""
        if not recipients:
            raise ValueError("no recipient")
        key, nonce = header.new_file_key(), os.urandom(NONCE)
        self._cipher = payload.Cipher(key, nonce)
        self._sink = sink
        self._held = bytearray()  # up to one chunk, which may be the last
        self._index = 0  # of that chunk
        sink(header.make(key, recipients) + nonce)

    def write(self, data: Buffer) -> None:
        """Seal data, of any length."""
        rest = memoryview(data)
        if not rest:
            return
        if self._held:
            taken = CHUNK - len(self._held)
            self._held += rest[:taken]
            rest = rest[taken:]
            if not rest:
                return
            self._put(self._held)  # it is full, and not the last
            self._held = bytearray()
        while whole := min(_AT_ONCE, (len(rest) - 1) // CHUNK * CHUNK):
            self._put(rest[:whole])
            rest = rest[whole:]
        self._held += rest

    def close(self) -> None:
        """Write the last chunk. Without it no reader takes the file for whole."""
        self._put(self._held, ends=True)
        self._held = bytearray()

    def _put(self, plain: Buffer, ends: bool = False) -> None:
        sealed = self._cipher.seal(plain, self._index, ends)
        self._index += payload.chunks(len(plain))
        self._sink(sealed)


def seal(recipients: Sequence[Recipient], data: Buffer) -> bytes:
    """Return data as a sealed file."""
    pieces: list[Buffer] = []
    sealer = Sealer(recipients, pieces.append)
    sealer.write(data)
    sealer.close()
    return b"".join(pieces)
