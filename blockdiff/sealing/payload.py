"""What follows the header: chunks of 64 KiB, each sealed on its own with the number of its place.

The construction is STREAM: a chunk's nonce is its index and whether it is the last. So a chunk that
was moved, doubled, left out, or cut off at the end does not open.
"""

import hashlib
import hmac

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from blockdiff.formats import Buffer

CHUNK = 64 * 1024  # bytes of plaintext; only the last chunk may be shorter
TAG = 16  # bytes that sealing adds to each
SEALED_CHUNK = CHUNK + TAG
NONCE = 16  # bytes before the first chunk


class NotGenuine(Exception):
    """A chunk does not open; the argument is its index."""


def derive(secret: bytes, salt: bytes, purpose: bytes) -> bytes:
    """Return a key of 32 bytes.  HKDF-SHA-256, RFC 5869, of which one block is enough."""
    extracted = hmac.digest(salt, secret, hashlib.sha256)
    return hmac.digest(extracted, purpose + b"\x01", hashlib.sha256)


def chunks(size: int) -> int:
    """Return how many chunks so many bytes of plaintext take: one at least."""
    return max(1, -(-size // CHUNK))


def plain_size(length: int) -> int | None:
    """Return the bytes of plaintext in sealed chunks of this length; None: no whole file has so many."""
    last, rest = divmod(length - 1, SEALED_CHUNK) if length > 0 else (0, -1)
    # rest + 1 bytes are in the last chunk, which is empty only if it is the only one
    if rest + 1 < TAG or (rest + 1 == TAG and last):
        return None
    return length - TAG * (last + 1)


class Cipher:
    """Seals and opens the chunks of one file."""

    def __init__(self, file_key: bytes, nonce: bytes) -> None:
        self._key = ChaCha20Poly1305(derive(file_key, nonce, b"payload"))

    def seal(self, plain: Buffer, first: int, ends: bool) -> bytearray:
        """Return plaintext as sealed chunks, the first of them number `first`; `ends`: the last is the file's last.

        All are whole but the file's last, which is empty only in an empty file.
        """
        source = memoryview(plain)
        sealed = bytearray(len(source) + TAG * chunks(len(source)))
        target = memoryview(sealed)
        last = chunks(len(source)) - 1
        for index in range(last + 1):
            part = source[index * CHUNK : (index + 1) * CHUNK]
            place = index * SEALED_CHUNK
            nonce = _nonce(first + index, ends and index == last)
            self._key.encrypt_into(nonce, part, None, target[place : place + len(part) + TAG])
        return sealed

    def open(self, sealed: Buffer, first: int, ends: bool) -> bytearray:
        """Return the plaintext of chunks; the reverse of `seal`.  Raises NotGenuine."""
        source = memoryview(sealed)
        count = -(-len(source) // SEALED_CHUNK)
        plain = bytearray(len(source) - TAG * count)
        target = memoryview(plain)
        for index in range(count):
            part = source[index * SEALED_CHUNK : (index + 1) * SEALED_CHUNK]
            place = index * CHUNK
            nonce = _nonce(first + index, ends and index == count - 1)
            try:
                self._key.decrypt_into(nonce, part, None, target[place : place + len(part) - TAG])
            except InvalidTag:
                raise NotGenuine(first + index) from None
        return plain


def _nonce(index: int, last: bool) -> bytes:
    return index.to_bytes(11, "big") + (b"\x01" if last else b"\x00")
