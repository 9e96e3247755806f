"""A private key in a file: why ssh would not use it, and what to do. Nothing is decrypted."""

import base64
import binascii
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_MOST = 64 * 1024  # bytes that are read; an encrypted key of 16384 bits has 17 KiB
_BEGIN, _MAGIC = b"-----BEGIN OPENSSH PRIVATE KEY-----", b"openssh-key-v1\0"


@dataclass(frozen=True)
class Unused:
    """A key, or an ssh-agent, that was not used."""

    name: str
    why: str
    remedy: str = ""  # what to do, if that is known

    def __str__(self) -> str:
        return f"{self.name} ({self.why})"


def unused(path: Path) -> Unused | None:
    """Return why a key file cannot be used by itself, None if no reason was found."""
    try:
        found = path.stat()
        with open(path, "rb") as file:
            data = file.read(_MOST)
    except OSError as error:
        return Unused(str(path), f"{error.strerror}")
    # ssh checks that only for files of its own user
    if found.st_uid == os.getuid() and found.st_mode & 0o077:
        return Unused(str(path), "other users may read it", f"chmod 600 {path}")
    if _encrypted(data):
        why = "it has a passphrase and is not in an ssh-agent"
        return Unused(str(path), why, f"ssh-add {path}, or use a key without a passphrase")
    return None


def _encrypted(data: bytes) -> bool:
    first, _, rest = data.lstrip().partition(b"\n")
    if first.strip() != _BEGIN:  # RFC 1421 and PKCS #8
        return b"ENCRYPTED" in data[:200]
    try:
        inner = base64.b64decode(b"".join(rest.split(b"-----")[0].split())[:64])
    except binascii.Error:
        return False
    # then the name of a cipher, with its length before it
    return inner.startswith(_MAGIC) and inner[len(_MAGIC) + 4 :][:4] != b"none"


def advice(user: str, tried: bool, skipped: Sequence[Unused]) -> str:
    """Return what to do if a host accepted no key; `tried`: a key was offered; `skipped`: keys that were not."""
    remedies = [each.remedy for each in skipped if each.remedy][:1]
    if tried or not remedies:
        remedies.insert(0, f"add the public key to ~{user}/.ssh/authorized_keys on the host")
    return "; or ".join(remedies)
