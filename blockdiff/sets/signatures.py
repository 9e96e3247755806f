"""Signatures of a set's manifests: which manifests are believed, and what signs new ones.

A manifest has the SHA-256 of every other file of its version, so that one signature covers them all.
The bytes that were verified are those that are decoded: a file is never read twice.
Format: blockdiff-formats(5), "Signature".
"""

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterable
from typing import Protocol

from blockdiff.errors import NotSigned, SignatureLost
from blockdiff.formats import manifest, names, signature
from blockdiff.place.base import Place, head
from blockdiff.sets.version import Version


class Signers(Protocol):
    """Whose signatures count."""

    def fault(self, principal: str, data: bytes, signed: bytes) -> str:
        """Return why `signed` is no good signature of `data` by this principal; "" if it is."""


class Signing(Protocol):
    """A key that signs."""

    @property
    def trusted(self) -> Signers:
        """Whose signatures count where a version that is signed is signed anew."""

    def sign(self, data: bytes) -> bytes:
        """Return the signature of these bytes.  Raises CannotSign."""


class Believed:
    """The manifests of a set that are believed, because one of these signers signed them."""

    def __init__(self, signers: Signers, place: Place, base: str) -> None:
        self._signers, self._place, self._base = signers, place, base
        self._good: set[bytes] = set()  # SHA-256 of each

    def choose(self, path: str, data: bytes, drafts: Iterable[str]) -> bytes:
        """Return `data`, a manifest that was read from `path`, if it is believed.  Raises NotSigned or OSError.

        `drafts`: paths of manifests that are to replace it.  A rewrite replaces the signature first: until the
        manifest follows, also if the rewrite was killed, the one that is signed is among them.
        """
        if self._key(data) in self._good:
            return data
        signed = read(self._place, path.removesuffix(".json") + ".sig")
        why = self._fault(data, signed)
        if not why:
            return data
        for other in drafts:
            try:
                draft = head(self._place, other, manifest.MAX_SIZE + 1)
            except OSError:
                continue
            if not self._fault(draft, signed):
                return draft
        raise NotSigned(path, why)

    def _fault(self, data: bytes, signed: bytes) -> str:
        why = self._signers.fault(self._base, data, signed)
        if not why:
            self._good.add(self._key(data))
        return why

    def _key(self, data: bytes) -> bytes:
        return hashlib.sha256(data).digest()


def read(place: Place, path: str) -> bytes:
    """Return a version's signature.  Raises NotSigned if there is none of a possible form, or OSError."""
    try:
        blob = place.open(path)
    except FileNotFoundError:
        raise NotSigned(path.removesuffix(".sig") + ".json", "there is no .sig beside it") from None
    with contextlib.closing(blob):
        fd = blob.fileno()
        if fd >= 0 and (os.path.islink(path) or not stat.S_ISREG(os.fstat(fd).st_mode)):
            raise NotSigned(path, "it is no regular file")
        if blob.size > signature.MAX_SIZE:
            raise NotSigned(path, f"a signature of {blob.size} bytes")
        return blob.pread(signature.MAX_SIZE, 0)


def is_signature(place: Place, path: str) -> bool:
    """Return whether a file has the form of a signature: one without its manifest is what a killed run left."""
    try:
        return path.endswith(".sig") and read(place, path).startswith(signature.BEGIN)
    except (NotSigned, OSError):
        return False


def refuse_loss(name: str, listing: names.Listing, numbers: Iterable[int], signing: Signing | None) -> None:
    """Raise SignatureLost if one of these versions is signed, and nothing signs it when it is rewritten."""
    for number in sorted(numbers):
        if signing is None and ".sig" in listing.versions.get(number, ()):
            raise SignatureLost(number, name)


def doubt(place: Place, path: str, base: str, version: Version, signers: Signers) -> str:
    """Return why the signature of a version that was read is not good; "" if it is.  Raises OSError.

    `path`: of the signature.  A manifest has one form only, so that what was read is what was signed.
    """
    if version.manifest is None:
        return "it has no manifest that counts"
    if version.manifest.value.get("set") != base:
        return f"its manifest is of the set {version.manifest.value.get('set')!r}"
    try:
        return signers.fault(base, manifest.encode(version.manifest.value), read(place, path))
    except NotSigned as error:
        return str(error.args[1])
