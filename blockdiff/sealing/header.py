"""The header: the file key, wrapped for each recipient. Text, parsed strictly, since it comes from a stranger.

    age-encryption.org/v1
    -> X25519 EPHEMERAL         a stanza; other programs write other kinds, too
    WRAPPED FILE KEY
    --- MAC of all before
"""

import base64
import hashlib
import hmac
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from blockdiff.formats import FormatError
from blockdiff.sealing.keys import MOST_KEYS, Identity, Recipient
from blockdiff.sealing.payload import TAG, derive

MOST_BYTES = 64 * 1024  # of a header that is read
FILE_KEY = 16  # bytes
_MOST_STANZAS = 2 * MOST_KEYS  # other programs add some that mean nothing
_VERSION = b"age-encryption.org/v1\n"
# possessive, so that nothing is ever tried twice
_STANZA = re.compile(rb"-> ([!-~]++(?: [!-~]++)*+)\n((?:[A-Za-z0-9+/]{64}\n)*+[A-Za-z0-9+/]{0,63}+\n)")
_END = re.compile(rb"--- ([A-Za-z0-9+/]{43})\n")
_X25519, _SCRYPT = b"X25519", b"scrypt"
_PURPOSE = b"age-encryption.org/v1/X25519"
_WRAP_NONCE = bytes(12)  # its key is used once


class Stranger(FormatError):
    """The file is not one of age's."""


@dataclass
class Header:
    """A header that was parsed; nothing in it is proved before `file_key` returns."""

    stanzas: list[tuple[list[bytes], bytes]]  # arguments and body
    mac: bytes
    covered: bytes  # what the MAC is of
    size: int  # bytes, from the file's first to the payload's


def make(file_key: bytes, to: Sequence[Recipient]) -> bytes:
    """Return the header that wraps a file key for recipients."""
    lines = [_VERSION]
    for one in to:
        once = X25519PrivateKey.generate()
        share = once.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        key = derive(once.exchange(one.key), share + one.public, _PURPOSE)
        body = ChaCha20Poly1305(key).encrypt(_WRAP_NONCE, file_key, None)
        lines.append(b"-> %s %s\n%s\n" % (_X25519, _text(share), _text(body)))
    covered = b"".join([*lines, b"---"])
    return b"%s %s\n" % (covered, _text(_mac(file_key, covered)))


def new_file_key() -> bytes:
    """Return a file key for one file: its payload's key must never be used again."""
    return os.urandom(FILE_KEY)


def parse(data: bytes) -> Header:
    """Return the header that data begins with; MOST_BYTES of a file are enough.

    Raises FormatError: it is malformed, cut, or larger than any that is read; Stranger: it is no header.
    """
    if not data.startswith(_VERSION):
        raise Stranger(_stranger(data))
    end = min(len(data), MOST_BYTES)
    place = len(_VERSION)
    stanzas: list[tuple[list[bytes], bytes]] = []
    while match := _STANZA.match(data, place, end):
        if len(stanzas) == _MOST_STANZAS:
            raise FormatError(f"its header has more than {_MOST_STANZAS} stanzas")
        stanzas.append((match[1].split(b" "), _bytes_of(match[2].replace(b"\n", b""))))
        place = match.end()
    match = _END.match(data, place, end)
    if not match or not stanzas:
        raise FormatError("its header is damaged, cut or too large")
    return Header(stanzas, _bytes_of(match[1]), data[: place + 3], match.end())


def file_key(header: Header, identities: Sequence[Identity]) -> bytes | None:
    """Return the file key, None if no identity opens the header.  Raises FormatError if it is not genuine."""
    if any(arguments[0] == _SCRYPT for arguments, _ in header.stanzas) and len(header.stanzas) > 1:
        raise FormatError("its header mixes a passphrase with other keys")
    wrapped = [_wrapped(*stanza) for stanza in header.stanzas if stanza[0][0] == _X25519]
    for share, body in wrapped:
        for identity in identities:
            found = _unwrapped(share, body, identity)
            if found is not None:
                if not hmac.compare_digest(_mac(found, header.covered), header.mac):
                    raise FormatError("its header is not what was sealed")
                return found
    return None


def by_passphrase(header: Header) -> bool:
    """Return whether only a passphrase opens the file."""
    return header.stanzas[0][0][0] == _SCRYPT


def _wrapped(arguments: list[bytes], body: bytes) -> tuple[bytes, bytes]:
    if len(arguments) != 2 or len(share := _bytes_of(arguments[1])) != 32 or len(body) != FILE_KEY + TAG:
        raise FormatError("its header has a malformed stanza")
    return share, body


def _unwrapped(share: bytes, body: bytes, identity: Identity) -> bytes | None:
    try:
        secret = identity.key.exchange(X25519PublicKey.from_public_bytes(share))
    except ValueError:  # the result would be the same for every identity
        raise FormatError("its header has a malformed stanza") from None
    key = derive(secret, share + identity.public, _PURPOSE)
    try:
        return ChaCha20Poly1305(key).decrypt(_WRAP_NONCE, body, None)
    except InvalidTag:  # for another identity
        return None


def _mac(key: bytes, covered: bytes) -> bytes:
    return hmac.digest(derive(key, b"", b"header"), covered, hashlib.sha256)


def _text(data: bytes) -> bytes:
    return base64.b64encode(data).rstrip(b"=")


def _bytes_of(text: bytes) -> bytes:
    """Return what base64 without padding stands for.  Raises FormatError unless it is the one spelling of it."""
    try:
        data = base64.b64decode(text + b"=" * (-len(text) % 4))
    except ValueError:
        data = b""
    if _text(data) != text:
        raise FormatError("its header is damaged")
    return data


def _stranger(data: bytes) -> str:
    if data.startswith(b"age-encryption.org/"):
        return "it is of another version of age"
    if data.lstrip().startswith(b"-----BEGIN AGE"):
        return "it is age's text format"
    return "it is not sealed by age"
