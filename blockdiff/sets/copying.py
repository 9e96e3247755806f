"""The files of a version, read from one set and written into another, where they become the same version.

Every byte is hashed while it is written, and compared with what the version's manifest lists before
anything gets a name.  The manifest itself is copied as it is.
"""

import contextlib
from collections.abc import Callable
from concurrent.futures import Executor, wait
from dataclasses import dataclass, field

from blockdiff.errors import DamagedFile, MissingFile, StoreUnreadable
from blockdiff.formats import names
from blockdiff.formats.manifest import MAX_SIZE, StoredFile
from blockdiff.place.base import PIECE, Blob, Part, head
from blockdiff.place.partfile import PartFile
from blockdiff.sets import signatures, versions
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.held import Held
from blockdiff.sets.version import Version, VersionFiles


@dataclass(frozen=True)
class Original:
    """A version of the set that is copied, as it was found before anything was read of it."""

    files: VersionFiles
    sheet: bytes | None  # its manifest, as it is stored; None: it has none that counts
    stored: dict[str, int]  # bytes of each of its files but the manifest, by suffix
    signed: bytes | None = None  # the manifest's signature, as it is stored

    @property
    def version(self) -> Version:
        """The version as its files describe it."""
        return self.files.version

    @property
    def size(self) -> int:
        """Bytes of all its files but the manifest."""
        return sum(self.stored.values())


@dataclass
class Written:
    """The files of a copied version under temporary names; they are as the manifest lists them."""

    parts: dict[str, Part] = field(default_factory=dict)  # by suffix
    warnings: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes that were written."""
        return sum(part.size for part in self.parts.values())

    def discard(self) -> None:
        """Remove what was not published; never raises."""
        for part in self.parts.values():
            part.discard()


def is_needed(suffix: str) -> bool:
    """Return whether a version cannot be restored without its file of this suffix."""
    return suffix == ".md5" or suffix in names.DIFF_SUFFIXES


def look(source: BackupSet, number: int, held: Held, sealed: bool) -> Original:
    """Return what there is of a version, for a place that is `sealed` or not.

    Raises as versions.version, and NotSigned.
    """
    version = versions.version(source, number, held.listing, deep=not source.place.checks)
    files = versions.files_of(source, version, held.open)
    sheet, signed, wanted = None, None, [version.suffix, ".md5"]
    if version.manifest is not None:
        sheet = head(source.place, source.path(number, ".json"), MAX_SIZE + 1)
        wanted += [suffix for suffix in version.manifest.files if suffix not in wanted]
        if sealed and ".xxh128" in wanted:
            wanted.remove(".xxh128")  # it is for the next backup, and a sealed set is not continued
        if ".sig" in held.listing.versions[number]:
            path = source.path(number, ".sig")
            try:
                signed = signatures.read(source.place, path)
            except OSError as error:
                raise StoreUnreadable(path, error.strerror) from None
    stored = {}
    for suffix in wanted:
        path = source.path(number, suffix)
        try:
            stored[suffix] = source.size(number, suffix)
            held.others += [path] if suffix == ".xxh128" else []
        except FileNotFoundError:
            if is_needed(suffix):
                raise MissingFile(path) from None
        except OSError as error:
            raise StoreUnreadable(path, error.strerror) from None
    return Original(files, sheet, stored, signed)


def write(
    original: Original, source: BackupSet, dest: BackupSet, ahead: Executor, done: Callable[[int], object]
) -> Written:
    """Write the files of a version under temporary names, proved; the caller calls `discard` in the end.

    `ahead` reads while this thread hashes and writes; `done` is called with the bytes that were written
    since.  Raises DamagedFile or MissingFile if a file is not as its manifest lists it, StoreUnreadable,
    NoRoom or StoreFailed; then nothing is left.
    """
    out, number, sheet = Written(), original.version.number, original.version.manifest
    try:
        for suffix in original.stored:
            path = source.path(number, suffix)
            try:
                blob = _opened(original, path)
            except (MissingFile, StoreUnreadable) as error:
                if is_needed(suffix):
                    raise
                out.warnings.append(f"{error}; it only speeds things up and is not copied")
                continue
            with contextlib.closing(blob):
                part = out.parts[suffix] = dest.part(number, suffix)
                _pour(blob, path, part, ahead, done)
                if isinstance(part, PartFile):
                    part.date(blob.look().mtime_ns)
            part.close()
            if sheet is not None and suffix in sheet.files:
                _prove(out, suffix, path, sheet.files[suffix])
    except BaseException:
        out.discard()
        raise
    return out


def _opened(original: Original, path: str) -> Blob:
    try:
        return original.files.open(path)
    except FileNotFoundError:
        raise MissingFile(path) from None
    except OSError as error:
        raise StoreUnreadable(path, error.strerror) from None


def _pour(blob: Blob, path: str, part: Part, ahead: Executor, done: Callable[[int], object]) -> None:
    """Write all of a file into a part.  What is done to the bytes on their way is done here."""
    blob.in_order()
    place, size = 0, blob.size
    coming = ahead.submit(blob.pread, PIECE, place)
    try:
        while place < size and (piece := coming.result()):
            place += len(piece)
            if place < size:
                coming = ahead.submit(blob.pread, PIECE, place)
            part.write(piece)
            done(len(piece))
    except OSError as error:
        raise StoreUnreadable(path, error.strerror) from None
    finally:
        wait([coming])


def _prove(out: Written, suffix: str, path: str, wanted: StoredFile) -> None:
    """Compare what was written with its manifest; a file that only speeds things up is left out if it differs.

    Raises DamagedFile.
    """
    found = out.parts[suffix].stored()
    if found == wanted:
        return
    what = f"it has {found.size} bytes" if found.size != wanted.size else f"its SHA-256 is {found.sha256}"
    listed = f"{wanted.size} bytes" if found.size != wanted.size else wanted.sha256
    if is_needed(suffix):
        raise DamagedFile(path, f"{what}, in its manifest is {listed}")
    out.parts.pop(suffix).discard()
    out.warnings.append(f"{path} is damaged; it only speeds things up and is not copied")
