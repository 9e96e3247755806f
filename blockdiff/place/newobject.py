"""Files that are being written into an object store; see place.base.Part.

A diff file goes up in parts while it is made, and appears whole when it is published; until then an
abort, also by another run, ends it.  The others are kept here and made by one request, which makes an
object only if there is none of that name: of two runs that write the same version, one gets the digest
file's name.
"""

import abc
import hashlib
import tempfile
from typing import BinaryIO, Protocol

from blockdiff.errors import BlockdiffError, SetLocked, StoreFailed
from blockdiff.formats.manifest import StoredFile
from blockdiff.place.base import Access
from blockdiff.place.bucket import Bucket
from blockdiff.place.listing import Entry
from blockdiff.place.partfile import write_failed

MOST = 5 << 30  # bytes of an object that one request makes


class Target(Protocol):
    """Where the files go, for one of their names."""

    bucket: Bucket
    access: Access

    def allow(self, last: bool = False, asked: bool = False) -> None:
        """Raise SetLocked unless this run may still write; `last`: what makes a version appear.

        `asked`: the store is asked for it.
        """

    def found(self) -> Entry | None:
        """Return the object as it is, asked for since this run has last changed anything."""

    def taken(self) -> bool:
        """Return whether there is an object of this name, as far as that is known since the set was locked."""

    def changed(self) -> None:
        """Forget how objects look."""


class NewObject(abc.ABC):
    """What both kinds have."""

    def __init__(self, target: Target, name: str) -> None:
        self._target, self._bucket, self._name = target, target.bucket, name
        self.size = 0  # bytes
        self._sha256 = hashlib.sha256()
        self._etag = ""  # that the object has; empty until it was published

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._target.allow()
        self._sha256.update(data)
        self.size += len(data)
        self._take(data)

    @abc.abstractmethod
    def _take(self, data: bytes | bytearray | memoryview) -> None:
        """Keep some more bytes."""

    def sha256(self) -> str:
        return self._sha256.hexdigest()

    def stored(self) -> StoredFile:
        return StoredFile(self.size, self.sha256())

    def has_its_name(self) -> bool:
        found = self._target.found() if self._etag else None
        return found is not None and (found.size, found.etag) == (self.size, self._etag)

    def withdraw(self) -> bool:
        try:
            if self.has_its_name():
                self._bucket.delete(self._name)
                self._target.changed()
        except BlockdiffError:
            return False
        return True

    def check(self) -> None:
        """Make sure that the store has what was written, by its size and its MD5s.  Raises StoreFailed."""
        if not self.has_its_name():
            self._target.allow(asked=True)  # what another run has taken over it may have removed
            raise StoreFailed(self._bucket.shown(self._name), "the store does not have what was sent")


class Uploaded(NewObject):
    """A file that goes up in parts."""

    def __init__(self, target: Target, name: str) -> None:
        super().__init__(target, name)
        self._upload = target.bucket.upload(name, storage_class=target.access.storage_class)

    def _take(self, data: bytes | bytearray | memoryview) -> None:
        self._upload.write(data)

    def close(self) -> None:
        self._upload.finish()

    def publish(self) -> None:
        self._target.allow()
        self._target.changed()
        try:
            self._upload.complete()
        except StoreFailed:
            self._target.allow(asked=True)
            raise
        self._etag = self._upload.etag
        if self._target.access.lock_until is not None:
            self._bucket.lock(self._name, self._target.access.lock_until)

    def replace(self) -> None:
        self.publish()

    def release(self) -> None:
        pass

    def discard(self) -> None:
        self._upload.discard()


class Whole(NewObject):
    """A file that is made by one request."""

    def __init__(self, target: Target, name: str) -> None:
        super().__init__(target, name)
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._spool: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115

    def _take(self, data: bytes | bytearray | memoryview) -> None:
        self._md5.update(data)
        try:
            self._spool.write(data)
        except OSError as error:
            raise write_failed(error, "a temporary file") from None

    def close(self) -> None:
        pass

    def publish(self) -> None:
        self._target.allow(last=self._name.endswith(".json"))
        taken = self._target.access.alone and self._target.taken()
        self._target.changed()
        until = self._target.access.lock_until
        if taken:
            raise self._taken()
        if self._target.access.alone:
            self._bucket.put(self._name, self._spool, lock_until=until)
        elif not self._bucket.create_once(self._name, self._spool, lock_until=until):
            raise self._taken()
        self._etag = self._md5.hexdigest()

    def _taken(self) -> SetLocked:
        hint = "another run has made it during this one; nothing of this run was published"
        return SetLocked(self._bucket.shown(self._name), hint=hint)

    def replace(self) -> None:
        self._target.allow()
        self._target.changed()
        self._bucket.put(self._name, self._spool)
        self._etag = self._md5.hexdigest()

    def release(self) -> None:
        self._spool.close()

    def discard(self) -> None:
        self.release()
