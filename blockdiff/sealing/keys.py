"""Keys of age: recipients, to whom a file is sealed, and identities, which open it.

Only X25519 keys, which every age program has. What is wrong with a key is told without a letter of
it: a private key is easily given where a public one belongs.
"""

from collections.abc import Callable, Iterable
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from blockdiff import printable
from blockdiff.errors import StoreUnreadable
from blockdiff.sealing import bech32

MOST_KEYS = 128  # recipients of a file, and identities tried: both count in the work of a hostile header
MOST_BYTES = 64 * 1024  # of a file of keys
_KEY = 32  # bytes
_SECRET = "AGE-SECRET-KEY-"
_ONLY = "only age's X25519 keys are supported"


class BadKey(ValueError):
    """A key, or a file of keys, cannot be used: the text says why, in one line."""


class Recipient:
    """A public key."""

    def __init__(self, public: bytes) -> None:
        self.public = public
        self.key = X25519PublicKey.from_public_bytes(public)


class Identity:
    """A private key. Nothing here shows it."""

    def __init__(self, private: bytes) -> None:
        self.key = X25519PrivateKey.from_private_bytes(private)
        self.public = self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def recipients(words: Iterable[str], paths: Iterable[str] = ()) -> list[Recipient]:
    """Return the keys that were given as words (age1...) and in files, each once.

    Raises BadKey, StoreUnreadable.
    """
    found = [recipient(word) for word in words]
    for path in paths:
        found += _file(path, recipient, "public key")
    return list(_few({one.public: one for one in found}.values(), "recipients"))


def identities(paths: Iterable[str]) -> list[Identity]:
    """Return the keys in files as age-keygen writes them, each once.  Raises BadKey, StoreUnreadable."""
    found = [one for path in paths for one in _file(path, identity, "private key")]
    return list(_few({one.public: one for one in found}.values(), "identities"))


def recipient(word: str) -> Recipient:
    """Return the public key that a word such as age1... is.  Raises BadKey."""
    if word.upper().startswith(_SECRET):
        raise BadKey("this is a private key: give its public key, age1..., which age-keygen -y shows")
    if word.startswith("ssh-"):
        raise BadKey(f"this is an SSH key; {_ONLY}, age1...")
    if word.startswith("age1") and "1" in word[4:]:  # no key has a 1 after its prefix
        raise BadKey(f"this key is for a plugin, or of a newer kind; {_ONLY}")
    if not word.startswith("age1"):
        raise BadKey("this is no public key of age, age1...")
    found = Recipient(_decoded(word, "age", "public key"))
    try:
        X25519PrivateKey.generate().exchange(found.key)
    except ValueError:  # a point of low order: anybody could open what is sealed to it
        raise BadKey("this public key is worth nothing: it has no private key") from None
    return found


def identity(word: str) -> Identity:
    """Return the private key that a word such as AGE-SECRET-KEY-1... is.  Raises BadKey."""
    if word.startswith(("-----BEGIN AGE", "age-encryption.org/")):
        raise BadKey("the file of keys is encrypted: decrypt it with age -d first")
    if word.startswith("-----BEGIN"):
        raise BadKey(f"this is another program's private key, such as one of SSH; {_ONLY}")
    if word.startswith("AGE-PLUGIN-") or (word.startswith(_SECRET) and not word.startswith(_SECRET + "1")):
        raise BadKey(f"this key is for a plugin, or of a newer kind; {_ONLY}")
    if word.startswith("age1"):
        raise BadKey("this is a public key, which opens nothing")
    if not word.startswith(_SECRET):
        raise BadKey("this is no private key of age, AGE-SECRET-KEY-1...")
    return Identity(_decoded(word, _SECRET, "private key"))


def _decoded(word: str, wanted: str, kind: str) -> bytes:
    try:
        prefix, key = bech32.decode(word)
    except ValueError as error:
        raise BadKey(f"this {kind} is mistyped or cut: {error}") from None
    if prefix != wanted or len(key) != _KEY:
        raise BadKey(f"this {kind} is mistyped or cut: it has the wrong length")
    return key


_Key = TypeVar("_Key", Recipient, Identity)


def _file(path: str, parse: Callable[[str], _Key], kind: str) -> list[_Key]:
    """Return the keys of a file: one a line, but for empty lines and those that begin with #."""
    shown = printable.name(path)
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise StoreUnreadable(shown, error.strerror) from None
    if len(data) > MOST_BYTES:
        raise BadKey(f"{shown} is no file of keys: it is longer than {printable.size(MOST_BYTES)}")
    found = []
    for number, line in enumerate(data.decode("utf-8", "replace").split("\n"), 1):
        word = line.strip()
        if word and not word.startswith("#"):
            try:
                found.append(parse(word))
            except BadKey as error:
                raise BadKey(f"{shown}:{number}: {error}") from None
    if not found:
        raise BadKey(f"{shown} has no {kind}")
    return found


def _few(found: Iterable[_Key], kind: str) -> Iterable[_Key]:
    kept = list(found)
    if len(kept) > MOST_KEYS:
        raise BadKey(f"{len(kept)} {kind} are too many: at most {MOST_KEYS}")
    return kept
