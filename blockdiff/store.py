"""The backup folder: what lies in it, one run at a time, and how a version is published.

Order of a backup, and what a crash leaves at each step:
1. every file is written under a temporary name (.part) and synced: nothing has happened;
2. each is renamed to its final name, the manifest last, and the folder is synced: if all
   of them are there the next run adopts the version, otherwise it replaces it;
3. NAME.ver is replaced the same way: only now does the version exist.
Format: blockdiff-formats(5), "Publishing".
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from blockdiff import chain, manifest
from blockdiff.errors import ForeignFiles, NoRoom, NoSuchSet, NotOurFormat, SetLocked, StoreFailed
from blockdiff.formats import FormatError

_PIECE = 1024 * 1024  # bytes read at a time
_FILE_MODE = 0o600


def write_failed(error: OSError, path: str) -> NoRoom | StoreFailed:
    """Return the error for a write that failed."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoRoom(path)
    return StoreFailed(path, error.strerror or str(error))


class PartFile:
    """A file of a version that is being written: counted, hashed, under its temporary name."""

    def __init__(self, folder: str, name: str) -> None:
        self.final_path = os.path.join(folder, name)
        self.path = self.final_path + chain.PART
        self.size = 0  # bytes
        self._hash = hashlib.sha256()
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._fd = os.open(self.path, flags, _FILE_MODE)
        except OSError as error:
            raise write_failed(error, self.path) from None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append data.  Raises NoRoom or StoreFailed."""
        self._hash.update(data)
        self.size += len(data)
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError as error:
            raise write_failed(error, self.path) from None

    def fileno(self) -> int:
        """Return the descriptor, for a process that is to write the file itself."""
        return self._fd

    def close(self) -> None:
        """Put what was written on the disk.  Raises NoRoom or StoreFailed."""
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        try:
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise write_failed(error, self.path) from None

    def take_over(self) -> None:
        """Count and hash what another process has written.  Raises StoreFailed."""
        self._hash, self.size = hashlib.sha256(), 0
        try:
            with open(self.path, "rb", buffering=0) as file:
                while piece := file.read(_PIECE):
                    self._hash.update(piece)
                    self.size += len(piece)
        except OSError as error:
            raise write_failed(error, self.path) from None

    def sha256(self) -> str:
        """Return the SHA-256 of what was written, in hex."""
        return self._hash.hexdigest()

    def stored(self) -> manifest.StoredFile:
        """Return what the manifest says of this file."""
        return manifest.StoredFile(self.size, self.sha256())

    def publish(self) -> None:
        """Rename to the final name; `close` came before.  Raises NoRoom or StoreFailed."""
        try:
            os.rename(self.path, self.final_path)
        except OSError as error:
            raise write_failed(error, self.final_path) from None

    def discard(self) -> None:
        """Close and remove what is there; never raises."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        with contextlib.suppress(OSError):
            os.unlink(self.path)


@dataclass(frozen=True)
class Version:
    """One version of a set, as its files say and as far as they can be trusted."""

    number: int
    full: bool
    suffix: str  # of the diff file
    block_size: int  # bytes
    count: int  # blocks of the volume
    manifest: manifest.Manifest | None  # None: the original's, or one that does not count
    notes: tuple[str, ...] = ()  # what a person should know of these files

    @property
    def size(self) -> int | None:
        """Bytes of the volume; None where only the last block's record tells."""
        if self.manifest is not None and self.manifest.size is not None:
            return self.manifest.size
        return 0 if self.count == 0 else None


class Store:
    """The set that a NAME (a path prefix) stands for."""

    def __init__(self, name: str) -> None:
        """Raises NoSuchSet if NAME cannot be one or its folder is not there."""
        self.name = name
        folder, self.base = os.path.split(name)
        self.folder = folder or "."
        if self.base in ("", ".", ".."):
            raise NoSuchSet(name, hint="NAME is a folder and the beginning of a file name")
        if not os.path.isdir(self.folder):
            raise NoSuchSet(name, hint=f"there is no folder {self.folder}")

    def path(self, number: int, suffix: str) -> str:
        """Return the path of a version's file."""
        return os.path.join(self.folder, chain.member_name(self.base, number, suffix))

    def listing(self) -> chain.Listing:
        """Return which files the set has now."""
        try:
            return chain.list_set(self.base, os.listdir(self.folder))
        except OSError as error:
            raise StoreFailed(self.folder, error.strerror) from None

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the set's lock.  Raises SetLocked at once if another run does.

        It is the kernel's lock on an open file: it ends with the process, never goes stale.
        """
        path = os.path.join(self.folder, chain.lock_name(self.base))
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, _FILE_MODE)
        except OSError as error:
            raise write_failed(error, path) from None
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise SetLocked(self.name) from None
            except OSError as error:
                raise StoreFailed(path, error.strerror) from None
            yield
        finally:
            os.close(fd)

    def newest(self, listing: chain.Listing | None = None) -> int:
        """Return the newest published version, 0 for a set that has not begun.

        Raises ForeignFiles if NAME.ver is missing or damaged while versions stand.
        """
        listing = listing or self.listing()
        path = os.path.join(self.folder, chain.ver_name(self.base))
        if not listing.has_ver:
            if not listing.versions:
                return 0
            raise ForeignFiles(f"{path} is missing, but there are versions {_spell(listing.versions)}", hint=_MEND)
        try:
            with open(path, "rb") as file:
                number = chain.decode_ver(file.read(64))
        except OSError as error:
            raise StoreFailed(path, error.strerror) from None
        if number is None:
            raise ForeignFiles(f"{path} does not hold one number and a newline", hint=_MEND)
        if number not in listing.versions:
            raise ForeignFiles(f"{path} says {number}, but there is no such version", hint=_MEND)
        return number

    def size(self, number: int, suffix: str) -> int:
        """Return the size of one file in bytes.  Raises StoreFailed."""
        path = self.path(number, suffix)
        try:
            return os.stat(path).st_size
        except OSError as error:
            raise StoreFailed(path, error.strerror) from None

    def hash(self, number: int, suffix: str) -> manifest.StoredFile:
        """Read one file and return its size and SHA-256.  Raises OSError."""
        digest = hashlib.sha256()
        size = 0
        with open(self.path(number, suffix), "rb", buffering=0) as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
                size += len(piece)
        return manifest.StoredFile(size, digest.hexdigest())

    def read_manifest(self, number: int) -> manifest.Manifest:
        """Return a version's manifest, whether or not it counts.  Raises FormatError or OSError."""
        with open(self.path(number, ".json"), "rb") as file:
            found = manifest.decode(file.read(manifest.MAX_SIZE + 1))
        if found.version != number:
            raise FormatError(f"manifest is of version {found.version}")
        return found

    # writing

    def part(self, number: int, suffix: str) -> PartFile:
        """Open a new file of version `number` under its temporary name."""
        return PartFile(self.folder, chain.member_name(self.base, number, suffix))

    def sweep_parts(self) -> None:
        """Remove temporary files that a dead run of this set left; the lock is held."""
        for name in self.listing().parts:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self.folder, name))

    def publish(self, number: int, parts: Mapping[str, PartFile], value: dict[str, Any]) -> None:
        """Make the closed parts version `number`; `value` is the manifest without its files.

        Raises NoRoom or StoreFailed; until the last rename the old state stands.
        """
        files = {suffix: vars(part.stored()) for suffix, part in parts.items()}
        try:
            data = manifest.encode(dict(value, files=files))
        except FormatError as error:
            raise NotOurFormat(self.name, error) from None
        sheet = self.part(number, ".json")
        moved: list[str] = []
        try:
            sheet.write(data)
            sheet.close()
            self._refuse_taken(number)
            for part in parts.values():
                moved.append(part.final_path)
                part.publish()
            sheet.publish()
        except BaseException:
            # the sheet's temporary file is what tells a torn first version of ours from files
            # of somebody else: it goes last, and only if everything it tells of is gone
            if self._unlink(moved):
                sheet.discard()
            raise
        self._sync_folder()
        self.publish_ver(number)

    def _refuse_taken(self, number: int) -> None:
        """Raise ForeignFiles if files of this number have come since the run began."""
        names = [self.path(number, suffix) for suffix in sorted(self.listing().versions.get(number, ()))]
        if names:
            raise ForeignFiles(f"{' and '.join(names)} came while version {number} was being made", hint=_FOREIGN)

    def _unlink(self, paths: list[str]) -> bool:
        try:
            for path in paths:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
        except OSError:
            return False
        return True

    def drop_torn_first(self, listing: chain.Listing) -> bool:
        """Remove what a first run left that died between its renames; the lock is held.

        Such a run left the manifest under its temporary name, and every file of version 1 is
        one that it names with the SHA-256 it has.  Anything else is not touched: returns False.
        """
        path = self.path(1, ".json") + chain.PART
        if listing.has_ver or set(listing.versions) != {1} or os.path.basename(path) not in listing.parts:
            return False
        try:
            with open(path, "rb") as file:
                files = manifest.decode(file.read(manifest.MAX_SIZE + 1)).files
            if any(files.get(suffix) != self.hash(1, suffix) for suffix in listing.versions[1]):
                return False
        except (FormatError, OSError):
            return False
        return self._unlink([self.path(1, suffix) for suffix in listing.versions[1]])

    def drop_torn(self, number: int, listing: chain.Listing) -> None:
        """Remove what a run of ours left at the number after NAME.ver's; the lock is held.

        Those are the files that its manifest names, be it under its own name or still under its
        temporary one.  Raises ForeignFiles if there are others; nothing was touched then.
        """
        found = listing.versions.get(number, frozenset())
        others = [self.path(number, suffix) for suffix in sorted(found - self._named(number))]
        if others:
            words = " ".join(map(shlex.quote, others))
            what = f"{' and '.join(others)}: above the newest version, and no manifest of ours names it"
            raise ForeignFiles(what, hint=f"{_FOREIGN}, or remove it with: rm -- {words}")
        for suffix in sorted(found, key=".json".__eq__):  # the manifest last: what is left is known by it
            try:
                os.unlink(self.path(number, suffix))
            except OSError as error:
                raise write_failed(error, self.path(number, suffix)) from None

    def _named(self, number: int) -> set[str]:
        """Return the suffixes of the files that manifests of ours at this number name."""
        named: set[str] = set()
        with contextlib.suppress(FormatError, OSError):
            named |= {".json", *self.read_manifest(number).files}
        with contextlib.suppress(FormatError, OSError), open(self.path(number, ".json") + chain.PART, "rb") as file:
            sheet = manifest.decode(file.read(manifest.MAX_SIZE + 1))
            named |= set(sheet.files) if sheet.version == number else set()
        return named

    def publish_ver(self, number: int) -> None:
        """Let NAME.ver name this version: from here on it exists.  Raises NoRoom or StoreFailed."""
        part = PartFile(self.folder, chain.ver_name(self.base))
        try:
            part.write(chain.encode_ver(number))
            part.close()
            part.publish()
        except BaseException:
            part.discard()
            raise
        self._sync_folder()

    def _sync_folder(self) -> None:
        try:
            fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise write_failed(error, self.folder) from None


_FOREIGN = "another tool's run that died may have left it; move it away"
_MEND = "look with blockdiff-list; if version N is the newest good one, put N and a newline into it"


def _spell(numbers: Mapping[int, object]) -> str:
    ordered = sorted(numbers)
    return f"{ordered[0]} to {ordered[-1]}" if len(ordered) > 1 else str(ordered[0])
