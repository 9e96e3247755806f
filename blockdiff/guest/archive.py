"""Files of a guest as a tar archive in the format of POSIX, with owners, modes and devices."""

import tarfile
from typing import IO

from blockdiff.guest.answers import Data, Entry

_TYPES = {
    "file": tarfile.REGTYPE, "dir": tarfile.DIRTYPE, "symlink": tarfile.SYMTYPE, "link": tarfile.LNKTYPE,
    "char": tarfile.CHRTYPE, "block": tarfile.BLKTYPE, "fifo": tarfile.FIFOTYPE,
}  # fmt: skip
_BLOCK = 512
_RECORD = 10240
_ZEROS = bytes(1 << 20)


class Archive:
    """A tar archive, written in one go."""

    def __init__(self, file: IO[bytes], most: int) -> None:
        """`most`: bytes of all files together, holes included, which it has as zeros."""
        self._file = file
        self._most = most
        self._written = 0  # bytes
        self._left = 0  # bytes of the file that was put last
        self._place = 0  # in it

    def put(self, entry: Entry, name: str) -> str:
        """Begin an entry with this name; return why it is left out, or ""."""
        self._complete()
        if entry.type not in _TYPES:
            return "sockets"
        if entry.size > self._most:
            return "files that would be far larger than the volume"
        self._most -= entry.size
        info = tarfile.TarInfo(name or ".")
        info.type = _TYPES[entry.type]
        info.mode, info.uid, info.gid, info.size = entry.mode, entry.uid, entry.gid, entry.size
        info.mtime = entry.mtime // 10**9
        info.linkname = entry.target
        info.devmajor, info.devminor = entry.device
        self._write(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))
        self._left, self._place = entry.size, 0
        return ""

    def write(self, data: Data) -> None:
        """Write bytes of the file that was put last."""
        self._zeros(data.offset - self._place)
        self._write(data.content)
        self._left -= len(data.content)
        self._place = data.offset + len(data.content)

    def remove(self) -> None:
        """Nothing: a header cannot be taken back, so what cannot be read is zeros."""

    def close(self) -> None:
        """Write its end."""
        self._complete()
        self._write(bytes(2 * _BLOCK))
        self._write(bytes(-self._written % _RECORD))
        self._file.flush()

    def _complete(self) -> None:
        self._zeros(self._left)
        self._write(bytes(-self._written % _BLOCK))
        self._left = 0

    def _zeros(self, count: int) -> None:
        self._left -= count
        self._place += count
        while count > 0:
            self._write(_ZEROS[:count])
            count -= min(count, len(_ZEROS))

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._written += len(data)
