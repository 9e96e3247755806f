"""NAME.N: nothing is compressed."""

from collections.abc import Iterator

from blockdiff.codecs.base import PIECE, Read
from blockdiff.formats import Buffer, TornError


class Plain:
    """NAME.N: nothing is compressed."""

    suffix = ""

    def compress(self, payload: Buffer, step: int = 0) -> bytes:
        return bytes(payload)

    def zeros(self, first: int, block_size: int, count: int) -> bytes | None:
        return None

    def zero_run(self, member: Buffer, block_size: int) -> tuple[int, int] | None:
        return None

    def decompress(self, member: Buffer, length: int) -> bytes:
        if len(member) != length:
            raise TornError(f"member is {len(member)} bytes, expected {length}")
        return bytes(member)

    def stream(self, read: Read) -> Iterator[bytes]:
        while piece := read(PIECE):
            yield piece
