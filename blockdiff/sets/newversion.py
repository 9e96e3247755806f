"""A version that is being written: its files under temporary names, until it is published or discarded."""

import datetime
from collections.abc import Callable

from blockdiff import codecs
from blockdiff.formats import digestfile, index, manifest
from blockdiff.place.base import Part
from blockdiff.sets import publishing
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.newdiff import NewDiff
from blockdiff.sets.signatures import Signing


class NewVersion:
    """The files of version `number` as a Receiver writes them (it is a receiver.Writer).

    Raises NoRoom or StoreFailed from every method that writes.
    """

    def __init__(
        self, backup_set: BackupSet, number: int, codec: codecs.Codec, block_size: int, keep_xxh: bool
    ) -> None:
        self._backup_set = backup_set
        self.number = number
        self._new_diff = NewDiff(backup_set, number, codec, block_size)
        self._parts: dict[str, Part] = {}  # the digest files, by suffix
        try:
            for suffix in (".md5", ".xxh128") if keep_xxh else (".md5",):
                self._parts[suffix] = backup_set.part(number, suffix)
                self._parts[suffix].write(digestfile.encode_header(block_size))
        except BaseException:
            self.discard()
            raise

    def diff(self, member: bytes) -> None:
        """Append a member to the diff file."""
        self._new_diff.write(member)

    def index(self, member: index.Member) -> None:
        """Append a member's entry to the index."""
        self._new_diff.index(member)

    def md5(self, digests: bytes | bytearray | memoryview) -> None:
        """Append MD5 digests."""
        self._parts[".md5"].write(digests)

    def xxh128(self, digests: bytes | bytearray | memoryview) -> None:
        """Append XXH3-128 digests."""
        self._parts[".xxh128"].write(digests)

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 of each digest file as it is written so far, in hex."""
        return {suffix[1:]: part.sha256() for suffix, part in self._parts.items()}

    @property
    def stored(self) -> int:
        """Bytes of the diff file so far."""
        return self._new_diff.stored

    def publish(
        self,
        value: manifest.NewManifest,
        payload: int,
        last_look: Callable[[], object],
        signing: Signing | None = None,
    ) -> None:
        """Sync everything to the disk and make it the set's newest version.

        `value` is what the manifest records of the run; `payload`: bytes of the diff file before
        compression; `last_look` is called when all is on the disk, and may raise; `signing` signs the manifest.
        """
        self._new_diff.close(payload)
        for part in self._parts.values():
            part.close()
        parts = {**self._new_diff.parts, **self._parts}
        publishing.publish(self._backup_set, self.number, parts, value, last_look, signing)

    def discard(self) -> None:
        """Remove what was written unless it was published; never raises."""
        self._new_diff.discard()
        for part in self._parts.values():
            part.discard()


def now() -> datetime.datetime:
    """Return the time in UTC."""
    return datetime.datetime.now(datetime.UTC)


def stamp(time: datetime.datetime) -> str:
    """Return a time as manifests have it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
