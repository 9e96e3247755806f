"""A place of which every file but NAME.ver is sealed: its names, sizes and bytes are those of what was sealed.

Opening a file proves its size and that it is whole; each read proves its bytes.  Files that are not sealed
do not count here: whoever can write there could have made them.
Format: blockdiff-formats(5), "Sealed files".
"""

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager

from blockdiff.formats.manifest import StoredFile
from blockdiff.formats.names import SEALED
from blockdiff.place.base import Blob, Look, Part, Place, hash_of, head
from blockdiff.sealing.keys import Identity, Recipient
from blockdiff.sealing.opened import FIRST, OpenedFile, outside
from blockdiff.sealing.sealer import Sealer

_PLAIN = (".ver", ".lock", ".keep")  # what they say, the names of the others show as well
_TEMPORARY = r"((?:\.r[0-9a-f]{16})?\.part)?"  # see formats.names
_SEALED = re.compile(rf"(.*?)({re.escape(SEALED)}|(?<=\.ver)|(?<=\.lock)|(?<=\.keep)){_TEMPORARY}", re.DOTALL)
_PART = re.compile(rf"(.*?){_TEMPORARY}", re.DOTALL)


class SealedBlob:
    """A sealed file that is open for reading; see place.base.Blob."""

    def __init__(self, stored: Blob, file: OpenedFile) -> None:
        self._stored, self._file = stored, file

    @property
    def size(self) -> int:
        return self._file.size

    def look(self) -> Look:
        return self._stored.look()

    def pread(self, length: int, offset: int) -> bytes:
        return self._file.pread(length, offset)

    def in_order(self) -> None:
        self._stored.in_order()

    def expect(self, parts: Iterable[tuple[int, int]]) -> None:
        self._stored.expect(self._file.stored(offset, length) for offset, length in parts)

    def again(self) -> "SealedBlob":
        stored = self._stored.again()
        return SealedBlob(stored, self._file.over(stored))

    def fileno(self) -> int:
        return -1  # what reads it would see sealed bytes

    def close(self) -> None:
        self._file.close()


class SealedPart:
    """A file that is sealed while it is written; see place.base.Part.  Counted and hashed is what is sealed."""

    def __init__(self, part: Part, recipients: Sequence[Recipient]) -> None:
        self._part = part
        self.size = 0
        self._sha256 = hashlib.sha256()
        try:
            self._sealer = Sealer(recipients, part.write)
        except BaseException:
            part.discard()
            raise

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._sha256.update(data)
        self.size += len(data)
        self._sealer.write(data)

    def close(self) -> None:
        self._sealer.close()
        self._part.close()

    def sha256(self) -> str:
        return self._sha256.hexdigest()

    def stored(self) -> StoredFile:
        return StoredFile(self.size, self.sha256())

    def check(self) -> None:
        self._part.check()

    def publish(self) -> None:
        self._part.publish()

    def replace(self) -> None:
        self._part.replace()

    def has_its_name(self) -> bool:
        return self._part.has_its_name()

    def withdraw(self) -> bool:
        return self._part.withdraw()

    def release(self) -> None:
        self._part.release()

    def discard(self) -> None:
        self._part.discard()


class SealedPlace:
    """See place.base.Place."""

    sealed = True

    def __init__(self, place: Place, identities: Sequence[Identity], recipients: Sequence[Recipient]) -> None:
        """`place`: where the sealed files are; `identities`: open them; `recipients`: of what is written."""
        self._place, self._identities, self._recipients = place, identities, recipients
        self._hashes: dict[tuple[str, Look], StoredFile] = {}
        self.at, self.checks, self.blind = place.at, place.checks, not identities
        self.claims, self.most_beside = place.claims, place.most_beside

    def exists(self) -> bool:
        return self._place.exists()

    def path(self, name: str) -> str:
        return self._place.path(name)

    def names(self, begin: str = "") -> list[str]:
        found = self._place.names(begin)
        return [match[1] + (match[3] or "") for match in map(_SEALED.fullmatch, found) if match]

    def look(self, path: str) -> Look:
        return self._place.look(_stored(path))

    def looks(self, paths: Iterable[str]) -> dict[str, Look | None]:
        by_path = {path: _stored(path) for path in paths}
        found = self._place.looks(by_path.values())
        return {path: found[stored] for path, stored in by_path.items()}

    def size(self, path: str) -> int:
        blob = self.open(path)
        try:
            return blob.size
        finally:
            blob.close()

    def first(self, path: str, most: int) -> bytes:
        if path.endswith(_PLAIN):
            return self._place.first(path, most)
        return head(self, path, most)

    def hash(self, path: str) -> StoredFile:
        key = path, self.look(path)
        if key not in self._hashes:
            with contextlib.closing(self.open(path)) as blob:
                blob.in_order()
                self._hashes[key] = hash_of(blob)
        return self._hashes[key]

    def soon(self, paths: Iterable[str], most: int, first: int = 0) -> None:
        self._place.soon(map(_stored, paths), max(most, FIRST), FIRST)

    def open(self, path: str) -> Blob:
        stored = self._place.open(_stored(path))
        if path.endswith(_PLAIN):
            return stored
        return SealedBlob(stored, OpenedFile(stored, self._identities, _stored(path)))

    def as_sent(self, path: str, progress: Callable[[int], object]) -> bool | None:
        stored = _stored(path)
        if not path.endswith(_PLAIN):
            with contextlib.closing(self._place.open(stored)) as blob:
                outside(blob.pread(FIRST, 0), blob.size, stored)
        return self._place.as_sent(stored, progress)

    def part(self, name: str, run: str) -> Part:
        if name.endswith(_PLAIN):
            return self._place.part(name, run)
        return SealedPart(self._place.part(f"{name}{SEALED}", run), self._recipients)

    def remove(self, path: str) -> None:
        self._place.remove(_stored(path))

    def made_by_us(self, path: str) -> bool:
        return self._place.made_by_us(_stored(path))

    def cancel(self, begin: str, wanted: Callable[[str], bool]) -> None:
        self._place.cancel(begin, lambda name: wanted(name.removesuffix(SEALED)))

    def alone(self, path: str) -> AbstractContextManager[None]:
        return self._place.alone(_stored(path))

    def sweep(self, path: str) -> bool:
        return self._place.sweep(_stored(path))

    def retain(self, path: str, until: int) -> None:
        self._place.retain(_stored(path), until)

    def retained(self, path: str) -> int:
        return self._place.retained(_stored(path))

    def keeps_removed(self) -> bool | None:
        return self._place.keeps_removed()

    def sync(self) -> None:
        self._place.sync()

    def locked(self, name: str, patience_s: float) -> AbstractContextManager[None]:
        return self._place.locked(name, patience_s)

    def room(self) -> int | None:
        return self._place.room()


def _stored(path: str) -> str:
    """Return the path of the file that has the seal of another one."""
    match = _PART.fullmatch(path)
    whole, part = (match[1], match[2] or "") if match else (path, "")
    return path if whole.endswith(_PLAIN) else f"{whole}{SEALED}{part}"
