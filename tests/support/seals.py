"""Keys, stored files that count what is asked of them, and a small sealer that writes what a real one never would."""

import base64
import hmac
import os

import pyrage
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from blockdiff.sealing import keys
from blockdiff.sealing.opened import OpenedFile

CHUNK, TAG = 65536, 16
BORDERS = (0, 1, 65535, 65536, 65537, 131071, 131072, 131073, 200_000)  # bytes of plaintext


class Key:
    """A pair of keys, as words and as ours and pyrage's."""

    def __init__(self):
        self.their_identity = pyrage.x25519.Identity.generate()
        self.their_recipient = self.their_identity.to_public()
        self.secret, self.public = str(self.their_identity), str(self.their_recipient)
        self.identity, self.recipient = keys.identity(self.secret), keys.recipient(self.public)


class Memory:
    """A stored file that remembers the ranges that were asked for."""

    def __init__(self, data):
        self.data, self.size, self.asked, self.closed = data, len(data), [], False

    def pread(self, length, offset):
        assert not self.closed and length >= 0 and offset >= 0
        self.asked.append((length, offset))
        return self.data[offset : offset + length]

    def close(self):
        self.closed = True


def sealed_size(size, recipients):
    """The bytes of a file of ours, from those of its plaintext and the number of its recipients."""
    return 70 + 98 * recipients + 16 + size + TAG * max(1, -(-size // CHUNK))


def opened(data, *identities, name="db.1.gz.age"):
    return OpenedFile(Memory(data), identities, name)


def plain(data, *identities):
    """All of a sealed file."""
    return b"".join(opened(data, *identities).pieces())


def text(data):
    return base64.b64encode(data).rstrip(b"=")


def derived(secret, salt, purpose):
    return HKDF(SHA256(), 32, salt, purpose).derive(secret)


class Forger:
    """Writes files with genuine keys and MACs, whatever else is wrong with them."""

    def __init__(self, key):
        self.key = key
        self.file_key, self.nonce = os.urandom(16), os.urandom(16)

    def stanza(self, arguments=None, file_key=None):
        """One stanza, right but for what is given."""
        once = X25519PrivateKey.generate()
        share = once.public_key().public_bytes_raw()
        wrap = derived(once.exchange(self.key.recipient.key), share + self.key.recipient.public, b"age-encryption.org/v1/X25519")
        body = ChaCha20Poly1305(wrap).encrypt(bytes(12), file_key or self.file_key, None)
        return b"-> %s\n%s\n" % (arguments(text(share)) if arguments else b"X25519 " + text(share), text(body))

    def header(self, *stanzas, version=b"age-encryption.org/v1\n", end=b"--- %s\n"):
        covered = version + b"".join(stanzas) + b"---"
        mac = hmac.digest(derived(self.file_key, b"", b"header"), covered, "sha256")
        return covered[:-3] + end % text(mac)

    def chunk(self, index, data, last):
        key = ChaCha20Poly1305(derived(self.file_key, self.nonce, b"payload"))
        return key.encrypt(index.to_bytes(11, "big") + bytes([last]), data, None)

    def file(self, *chunks, header=None):
        """A file; chunks: (plaintext, whether it is marked as the last)."""
        sealed = [self.chunk(index, *chunk) for index, chunk in enumerate(chunks)]
        return b"".join([header or self.header(self.stanza()), self.nonce, *sealed])
