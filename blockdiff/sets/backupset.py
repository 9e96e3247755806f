"""The backup folder: what lies in it, one run at a time, and how a version is published.

Order of a backup, and what a crash leaves at each step:
1. every file is written under a temporary name (.part) and synced: nothing has happened;
2. each gets its final name, the digest file first and the manifest last, and the folder is
   synced: if all of them are there the next run adopts the version, otherwise it replaces it;
3. NAME.ver is replaced by rename: only now does the version exist.
The lock keeps two runs apart.  Where it does not (it was removed, or a file system of a network
does not keep it), names that are never replaced do: of two runs that write the same version one
has the digest file's name, and the other ends and removes what it made itself and nothing else.
Where not even the locks on a run's own files are kept, one moment remains: a run that begins may take
for a dead one's what another has just named and not yet published, and remove it.
Format: blockdiff-formats(5), "Publishing".
"""

import contextlib
import fcntl
import hashlib
import os
import shlex
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from blockdiff.errors import ForeignFiles, NoSuchSet, NotOurFormat, SetLocked, StoreFailed, StoreUnreadable
from blockdiff.formats import FormatError, manifest, names
from blockdiff.sets.partfile import (
    FILE_MODE,
    PIECE,
    Busy,
    PartFile,
    is_at,
    lock_alone,
    read_failed,
    remove_dead,
    write_failed,
)

_TRIES = 10  # to take a lock file that somebody replaces
_PATIENCE_S = 0.5  # for a run that is just publishing
_PAUSE_S = 0.05


class BackupSet:
    """The set that a NAME (a path prefix) stands for."""

    def __init__(self, name: str) -> None:
        """Raises NoSuchSet if NAME cannot be one or its folder is not there."""
        self.name = name
        self._run = names.run_name(os.urandom(8))
        folder, self.base = os.path.split(name)
        self.folder = folder or "."
        if self.base in ("", ".", ".."):
            raise NoSuchSet(name, hint="NAME is a folder and the beginning of a file name")
        if not os.path.isdir(self.folder):
            raise NoSuchSet(name, hint=f"there is no folder {self.folder}")

    def path(self, number: int, suffix: str) -> str:
        """Return the path of a version's file."""
        return os.path.join(self.folder, names.member_name(self.base, number, suffix))

    def listing(self) -> names.Listing:
        """Return which files the set has now, and what NAME.ver says.  Raises StoreUnreadable.

        NAME.ver is read first: what it names is in the folder already.
        """
        ver = self._ver()
        try:
            found = names.list_set(self.base, os.listdir(self.folder))
        except OSError as error:
            raise read_failed(error, self.folder) from None
        return replace(found, ver=ver, has_ver=ver is not None)

    def settled_listing(self, above: bool = True) -> names.Listing:
        """Return the same once no run is just publishing, or after a while of waiting for that.

        `above`: wait as well where it is not the first version.
        """
        until = time.monotonic() + _PATIENCE_S
        while True:
            found = self.listing()
            number = names.decode_ver(found.ver or b"")
            busy = not found.has_ver and set(found.versions) == {1}
            busy = busy or (above and number is not None and number + 1 in found.versions)
            if not busy or time.monotonic() > until:
                return found
            time.sleep(_PAUSE_S)

    def _ver(self) -> bytes | None:
        """Return what NAME.ver holds, None if there is none.  Raises StoreUnreadable."""
        path = os.path.join(self.folder, names.ver_name(self.base))
        try:
            with open(path, "rb") as file:
                return file.read(64)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise read_failed(error, path) from None

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the set's lock.  Raises SetLocked at once if another run does.

        It is the kernel's lock on an open file: it ends with the process, never goes stale.
        """
        path = os.path.join(self.folder, names.lock_name(self.base))
        for _ in range(_TRIES):
            fd = self._open_lock(path)
            try:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise SetLocked(self.name) from None
                except OSError as error:
                    raise StoreFailed(path, error.strerror) from None
                if is_at(fd, path):
                    yield
                    return
            finally:
                os.close(fd)
        raise SetLocked(self.name)  # somebody removes the file all the time

    def _open_lock(self, path: str) -> int:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
        except OSError as error:
            raise write_failed(error, path) from None
        found = os.fstat(fd)
        empty = stat.S_ISREG(found.st_mode) and found.st_size == 0 and found.st_nlink == 1  # so it is nothing else
        if empty and stat.S_IMODE(found.st_mode) != FILE_MODE:
            with contextlib.suppress(OSError):  # it is another user's, or there are no modes here
                os.fchmod(fd, FILE_MODE)
        return fd

    def newest(self, listing: names.Listing | None = None) -> int:
        """Return the newest published version, 0 for a set that has not begun.

        Raises ForeignFiles if NAME.ver is missing or damaged while versions stand.
        """
        listing = listing or self.listing()
        path = os.path.join(self.folder, names.ver_name(self.base))
        if not listing.has_ver:
            if not listing.versions:
                return 0
            raise ForeignFiles(f"{path} is missing, but there are versions {_spell(listing.versions)}", hint=_MEND)
        number = names.decode_ver(listing.ver or b"")
        if number is None:
            raise ForeignFiles(f"{path} does not hold one number and a newline", hint=_MEND)
        if number not in listing.versions:
            raise ForeignFiles(f"{path} says {number}, but there is no such version", hint=_MEND)
        return number

    def size(self, number: int, suffix: str) -> int:
        """Return the size of one file in bytes.  Raises OSError."""
        return os.stat(self.path(number, suffix)).st_size

    def hash(self, number: int, suffix: str) -> manifest.StoredFile:
        """Read one file and return its size and SHA-256.  Raises OSError."""
        digest = hashlib.sha256()
        size = 0
        with open(self.path(number, suffix), "rb", buffering=0) as file:
            while piece := file.read(PIECE):
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
        return PartFile(self.folder, names.member_name(self.base, number, suffix), self._run)

    def sweep_parts(self) -> None:
        """Remove temporary files that a dead run of this set left; the lock is held.

        Raises SetLocked if one belongs to a run that lives: then the lock does not keep runs apart.
        """
        for name in self.listing().parts:
            if not remove_dead(os.path.join(self.folder, name)):
                raise SetLocked(self.name)

    @contextlib.contextmanager
    def holding(self, number: int) -> Iterator[list[str]]:
        """Keep other runs from publishing or removing the files of a version that is not published.

        Gives their suffixes.  Raises SetLocked if a run that lives has made them.
        """
        with contextlib.ExitStack() as held:
            suffixes = sorted(self.listing().versions.get(number, ()))
            for suffix in suffixes:
                try:
                    fd = lock_alone(self.path(number, suffix))
                except Busy:
                    raise SetLocked(self.name) from None
                if fd is not None:
                    held.callback(os.close, fd)
            yield suffixes

    def publish(
        self,
        number: int,
        parts: Mapping[str, PartFile],
        value: manifest.NewManifest,
        last_look: Callable[[], object] = lambda: None,
    ) -> None:
        """Make the closed parts version `number`; `value` is what its manifest tells of the run.

        `last_look` is called when all is on the disk, and may raise.  Raises NoRoom, StoreFailed,
        SetLocked or ForeignFiles; then the old state stands, or all but NAME.ver is done.
        """
        stored = {suffix: part.stored() for suffix, part in parts.items()}
        (diff,) = stored.keys() & names.DIFF_SUFFIXES
        try:
            data = value.encode(stored, diff)
        except FormatError as error:
            raise NotOurFormat(self.name, error) from None
        sheet = self.part(number, ".json")
        ordered = sorted(parts, key=lambda suffix: suffix != ".md5")  # who has its name goes on
        files = [*(parts[suffix] for suffix in ordered), sheet]
        try:
            sheet.write(data)
            sheet.close()
            last_look()
            self._refuse_taken(number)
            for part in files:
                part.publish()
            self._sync_folder()
            self._name(number, files)
        except BaseException:
            whole = all(part.stands() for part in files) and not self._moved(number)
            # a whole one is adopted by the next run.  Of another the sheet's temporary file tells a
            # torn first version of ours from files of somebody else: it goes last, and only if
            # everything that it tells of is gone
            left = [] if whole else [part for part in reversed(files) if not part.withdraw()]
            if not left:
                sheet.discard()
            sheet.release()
            raise
        for part in files:
            part.release()

    def _moved(self, number: int) -> bool:
        """Tell whether NAME.ver names neither this version nor the one before."""
        with contextlib.suppress(StoreUnreadable):
            return self._ver() not in (self._encoded(number - 1), self._encoded(number))
        return False

    def _encoded(self, newest: int) -> bytes | None:
        return names.encode_ver(newest) if newest else None

    def _refuse_taken(self, number: int) -> None:
        """Raise ForeignFiles if another run has published, or files of this number have come, since the run began."""
        self._expect(number - 1)
        names = [self.path(number, suffix) for suffix in sorted(self.listing().versions.get(number, ()))]
        if names:
            raise ForeignFiles(f"{' and '.join(names)} came while version {number} was being made", hint=_FOREIGN)

    def _expect(self, newest: int) -> None:
        """Make sure that NAME.ver says what it said when this run began.  Raises ForeignFiles."""
        if self._ver() != self._encoded(newest):
            why = f"{self.name}.ver was changed by another run while this one lasted"
            raise ForeignFiles(why, hint="nothing of this run was published; run again")

    def _name(self, number: int, files: list[PartFile]) -> None:
        """Publish a version whose files have their names; another run may have adopted them already."""
        with contextlib.suppress(ForeignFiles):
            self._expect(number)
            if all(part.stands() for part in files):
                return
        if not all(part.stands() for part in files):
            why = f"the files of version {number} were replaced by another run while this one lasted"
            raise ForeignFiles(why, hint="nothing of this run was published; run again")
        self.publish_ver(number, after=number - 1)

    def drop_torn_first(self, listing: names.Listing) -> None:
        """Remove what a first run left that died between its renames; its files are held.

        Such a run left the manifest under its temporary name, and every file of version 1 is
        one that it names with the SHA-256 it has.  A manifest alone, which earlier versions of the
        program left, stands for nothing.  Anything else is not touched.
        """
        if listing.versions[1] == {".json"} and self._named(1):
            self._remove(1, [".json"])
            return
        for path in self._temporary_sheets(1):
            if self._tells_of_first(path, listing):
                self._remove(1, sorted(listing.versions[1]))
                return

    def drop_torn(self, number: int, found: list[str]) -> None:
        """Remove what a run of ours left at the number after NAME.ver's; these suffixes are held.

        Those are the files that its manifest names, be it under its own name or still under its
        temporary one.  Raises ForeignFiles if there are others; nothing was touched then.
        """
        named = self._named(number)
        others = [self.path(number, suffix) for suffix in found if suffix not in named]
        if others:
            what = f"{' and '.join(others)}: above the newest version, and no manifest of ours names it"
            raise ForeignFiles(what, hint=f"{_FOREIGN}, or remove it with: rm -- {shlex.join(others)}")
        self._expect(number - 1)
        self._remove(number, sorted(found, key=".json".__eq__))  # the manifest last: what is left is known by it

    def _remove(self, number: int, suffixes: list[str]) -> None:
        for suffix in suffixes:
            path = self.path(number, suffix)
            try:
                os.unlink(path)
            except OSError as error:
                raise write_failed(error, path) from None

    def _temporary_sheets(self, number: int) -> list[str]:
        """Return the paths of a version's manifests that have not got their names yet."""
        begin = names.member_name(self.base, number, ".json") + "."
        return [os.path.join(self.folder, name) for name in self.listing().parts if name.startswith(begin)]

    def _named(self, number: int) -> set[str]:
        """Return the suffixes of the files that manifests of ours at this number name."""
        named: set[str] = set()
        with contextlib.suppress(FormatError, OSError):
            named |= {".json", *self.read_manifest(number).files}
        for path in self._temporary_sheets(number):
            with contextlib.suppress(FormatError, OSError), open(path, "rb") as file:
                sheet = manifest.decode(file.read(manifest.MAX_SIZE + 1))
                named |= set(sheet.files) if sheet.version == number else set()
        return named

    def _tells_of_first(self, path: str, listing: names.Listing) -> bool:
        try:
            with open(path, "rb") as file:
                files = manifest.decode(file.read(manifest.MAX_SIZE + 1)).files
            return all(files.get(suffix) == self.hash(1, suffix) for suffix in listing.versions[1])
        except (FormatError, OSError):
            return False

    def publish_ver(self, number: int, after: int | None = None) -> None:
        """Let NAME.ver name this version: from here on it exists.

        `after`: what it says until then.  Raises NoRoom, StoreFailed or ForeignFiles.
        """
        part = PartFile(self.folder, names.ver_name(self.base), self._run)
        try:
            part.write(names.encode_ver(number))
            part.close()
            if after is not None:
                self._expect(after)
            part.replace()
        finally:
            part.discard()
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


_FOREIGN = "another run, or another tool's that died, may have left it; move it away"
_MEND = "look with blockdiff-list; if version N is the newest good one, put N and a newline into it"


def _spell(numbers: Mapping[int, object]) -> str:
    ordered = sorted(numbers)
    return f"{ordered[0]} to {ordered[-1]}" if len(ordered) > 1 else str(ordered[0])
