"""A version that is being written: its files under temporary names, until it is published or discarded."""

import datetime
from collections.abc import Callable

from blockdiff import codecs
from blockdiff.formats import digestfile, index, manifest
from blockdiff.sets import publishing
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.partfile import PartFile


class NewVersion:
    """The files of version `number` as a Receiver writes them (it is a receiver.Writer).

    Raises NoRoom or StoreFailed from every method that writes.
    """

    def __init__(
        self, backup_set: BackupSet, number: int, codec: codecs.Codec, block_size: int, keep_xxh: bool
    ) -> None:
        self._backup_set = backup_set
        self.number = number
        self._parts: dict[str, PartFile] = {}
        self._lzop: codecs.LzopWriter | None = None
        self._indexed = codec.suffix in (".gz", ".zst")
        self._places = (0, 0)  # bytes of diff file and of payload, at the end
        try:
            self._diff = self._open(codec.suffix)
            self._md5 = self._open(".md5")
            self._md5.write(digestfile.encode_header(block_size))
            if keep_xxh:
                self._open(".xxh128").write(digestfile.encode_header(block_size))
            if self._indexed:
                self._open(".idx").write(index.encode_header(block_size))
            if codec is codecs.LZOP:
                self._lzop = codecs.LzopWriter(self._diff.write)
        except BaseException:
            self.discard()
            raise

    def _open(self, suffix: str) -> PartFile:
        self._parts[suffix] = self._backup_set.part(self.number, suffix)
        return self._parts[suffix]

    def diff(self, member: bytes) -> None:
        """Append a member to the diff file."""
        if self._lzop is not None:
            self._lzop.write(member)
        else:
            self._diff.write(member)

    def index(self, member: index.Member) -> None:
        """Append a member's entry to the index."""
        if self._indexed:
            self._parts[".idx"].write(index.encode(member))

    def md5(self, digests: bytes | bytearray | memoryview) -> None:
        """Append MD5 digests."""
        self._md5.write(digests)

    def xxh128(self, digests: bytes | bytearray | memoryview) -> None:
        """Append XXH3-128 digests."""
        self._parts[".xxh128"].write(digests)

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 of each digest file as it is written so far, in hex."""
        return {suffix[1:]: part.sha256() for suffix, part in self._parts.items() if suffix in (".md5", ".xxh128")}

    @property
    def stored(self) -> int:
        """Bytes of the diff file so far."""
        return self._diff.size

    def publish(self, value: manifest.NewManifest, payload: int, last_look: Callable[[], object]) -> None:
        """Sync everything to the disk and make it the set's newest version.

        `value` is what the manifest records of the run; `payload`: bytes of the diff file before
        compression; `last_look` is called when all is on the disk, and may raise.
        """
        if self._lzop is not None:
            lzop, self._lzop = self._lzop, None
            lzop.close()
        if self._indexed:
            self._parts[".idx"].write(index.encode(index.Member(self._diff.size, payload, 0, 0)))
        for part in self._parts.values():
            part.close()
        publishing.publish(self._backup_set, self.number, self._parts, value, last_look)

    def discard(self) -> None:
        """Remove what was written unless it was published; never raises."""
        if self._lzop is not None:
            self._lzop.abort()
            self._lzop = None
        for part in self._parts.values():
            part.discard()


def now() -> datetime.datetime:
    """Return the time in UTC."""
    return datetime.datetime.now(datetime.UTC)


def stamp(time: datetime.datetime) -> str:
    """Return a time as manifests have it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
