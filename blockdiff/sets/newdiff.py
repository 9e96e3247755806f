"""A diff file that is being written, and the index beside it where its codec has one."""

from blockdiff import codecs
from blockdiff.formats import index
from blockdiff.place.base import Part
from blockdiff.place.partfile import PartFile, in_folder
from blockdiff.sets.backupset import BackupSet


class NewDiff:
    """The diff file of version `number` and its index, under temporary names.

    Raises NoRoom or StoreFailed from every method that writes.
    """

    def __init__(self, backup_set: BackupSet, number: int, codec: codecs.Codec, block_size: int) -> None:
        self.parts: dict[str, Part] = {}  # by suffix
        self.suffix = codec.suffix
        self._lzop: codecs.LzopWriter | None = None
        try:
            self._diff = self.parts[codec.suffix] = backup_set.part(number, codec.suffix)
            if codec.suffix in (".gz", ".zst"):
                self.parts[".idx"] = backup_set.part(number, ".idx")
                self.parts[".idx"].write(index.encode_header(block_size))
            if codec is codecs.LZOP:
                self._lzop = codecs.LzopWriter(self._diff.write)
        except BaseException:
            self.discard()
            raise

    @property
    def files(self) -> dict[str, PartFile]:
        """The same as `parts`, of a set in a folder."""
        return {suffix: in_folder(part) for suffix, part in self.parts.items()}

    @property
    def stored(self) -> int:
        """Bytes of the diff file so far."""
        return self._diff.size

    def write(self, member: bytes) -> None:
        """Append a member."""
        if self._lzop is not None:
            self._lzop.write(member)
        else:
            self._diff.write(member)

    def index(self, member: index.Member) -> None:
        """Append a member's entry to the index."""
        if ".idx" in self.parts:
            self.parts[".idx"].write(index.encode(member))

    def close(self, payload: int) -> None:
        """End both files and sync them to the disk; `payload`: bytes of the diff file before compression."""
        if self._lzop is not None:
            lzop, self._lzop = self._lzop, None
            lzop.close()
        self.index(index.Member(self._diff.size, payload, 0, 0))
        for part in self.parts.values():
            part.close()

    def discard(self) -> None:
        """Remove what was written unless it was published; never raises."""
        if self._lzop is not None:
            self._lzop.abort()
            self._lzop = None
        for part in self.parts.values():
            part.discard()
