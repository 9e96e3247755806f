"""A sealed file, opened: any bytes of it, proved.

Opening takes one range from its beginning, and one from its end: only a genuine last chunk proves that
the file is whole, and so its size. Then each read takes the chunks that it needs, in one range. A range
that begins within the first 128 KiB is not fetched twice.
"""

import copy
from collections.abc import Iterator, Sequence
from typing import Protocol

from blockdiff.errors import DamagedFile, NotOurFormat, Sealed
from blockdiff.formats import FormatError
from blockdiff.sealing import header
from blockdiff.sealing.keys import Identity
from blockdiff.sealing.payload import CHUNK, NONCE, SEALED_CHUNK, Cipher, NotGenuine, chunks, plain_size

FIRST = 2 * 64 * 1024  # bytes fetched first: any header, and all of a small file
_PIECE = 64 * CHUNK  # bytes in a piece of a sequential read


class Stored(Protocol):
    """A stored file, as any place opens it."""

    @property
    def size(self) -> int:
        """Bytes of all of it."""

    def pread(self, length: int, offset: int) -> bytes:
        """Return bytes from offset on; fewer only at the end."""

    def close(self) -> None: ...


class OpenedFile:
    """The plaintext of a sealed file; itself a Stored, and for any thread if the one under it is."""

    def __init__(self, stored: Stored, identities: Sequence[Identity], name: str) -> None:
        """Take a stored file over: it is closed with this, and if this fails.  `name`: for messages, safe to print.

        Raises NotOurFormat, Sealed, DamagedFile, and what pread raises.
        """
        self.name = name
        self._stored, self._whole = stored, stored.size
        try:
            self._begin = stored.pread(min(self._whole, FIRST), 0)
            found, self.size = outside(self._begin, self._whole, name)
            self._open(found, identities)
        except BaseException:
            stored.close()
            raise

    def _open(self, found: header.Header, identities: Sequence[Identity]) -> None:
        try:
            key = header.file_key(found, identities)
        except FormatError as error:
            raise DamagedFile(self.name, error) from None
        if key is None and header.by_passphrase(found):
            raise Sealed(self.name, "with a passphrase, not for keys", hint="age -d opens it")
        if key is None:
            raise Sealed(self.name, _why(len(identities)))
        self._start = found.size + NONCE  # of the first chunk
        self._last = chunks(self.size) - 1
        self._cipher = Cipher(key, self._range(NONCE, found.size))
        self._chunks(self._last, self._last)

    def pread(self, length: int, offset: int) -> bytes:
        """Return bytes from offset on; fewer only at the end.  Raises DamagedFile."""
        end = min(offset + length, self.size)
        if offset >= end:
            return b""
        first = offset // CHUNK
        plain = self._chunks(first, (end - 1) // CHUNK)
        return bytes(memoryview(plain)[offset - first * CHUNK : end - first * CHUNK])

    def stored(self, offset: int, length: int) -> tuple[int, int]:
        """Return which part of the stored file `pread` reads for these bytes: where it begins, and its length."""
        place = self._start + offset // CHUNK * SEALED_CHUNK
        last = min((offset + max(length, 1) - 1) // CHUNK, self._last)
        return place, min(self._start + (last + 1) * SEALED_CHUNK, self._whole) - place

    def pieces(self) -> Iterator[bytes]:
        """Yield all of it, in pieces of 4 MiB at most.  Raises DamagedFile."""
        for offset in range(0, self.size, _PIECE):
            yield self.pread(_PIECE, offset)

    def over(self, stored: Stored) -> "OpenedFile":
        """Return the same file over another handle of the same stored bytes, without reading anything."""
        other = copy.copy(self)
        other._stored = stored
        return other

    def close(self) -> None:
        """Close the stored file."""
        self._stored.close()

    def _chunks(self, first: int, last: int) -> bytearray:
        """Return the plaintext of chunks."""
        place = self._start + first * SEALED_CHUNK
        end = min(self._start + (last + 1) * SEALED_CHUNK, self._whole)
        try:
            return self._cipher.open(self._range(end - place, place), first, last == self._last)
        except NotGenuine as error:
            what = "it is cut, or its end" if error.args[0] == self._last else f"chunk {error.args[0]} of it"
            raise DamagedFile(self.name, f"{what} is not what was sealed") from None

    def _range(self, length: int, offset: int) -> bytes:
        if offset + length <= len(self._begin):
            return self._begin[offset : offset + length]
        data = self._stored.pread(length, offset)
        if len(data) != length:
            raise DamagedFile(self.name, "it is cut")
        return data


def outside(begin: bytes, whole: int, name: str) -> tuple[header.Header, int]:
    """Return what shows of a sealed file without a key: its header, and its size in bytes if it is whole.

    `begin`: its first bytes, up to FIRST of them; `whole`: how many it has.  Raises NotOurFormat or DamagedFile.
    """
    try:
        found = header.parse(begin)
    except header.Stranger as error:
        raise NotOurFormat(name, error) from None
    except FormatError as error:
        raise DamagedFile(name, error) from None
    size = plain_size(whole - found.size - NONCE)
    if size is None:
        raise DamagedFile(name, "it is cut")
    return found, size


def _why(identities: int) -> str:
    if not identities:
        return "a private key is needed"
    return f"none of the {identities} identities opens it" if identities > 1 else "the identity does not open it"
