"""The set in its folder: which files it has, its lock, and NAME.ver.

Format: blockdiff-formats(5), "Names".
"""

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from blockdiff.errors import ForeignFiles, NoSuchSet, NotSigned, Sealed
from blockdiff.formats import FormatError, manifest, names
from blockdiff.place import base, choose
from blockdiff.place.base import PLAIN, Access, Part
from blockdiff.place.partfile import read_failed
from blockdiff.sets.signatures import Believed, Signers

_PATIENCE_S = 0.5  # how long to wait for a run that is just publishing
_LOCK_PATIENCE_S = 10  # how long a backup waits for the lock: a rewrite of a version has it for less than a second
_PAUSE_S = 0.05


class BackupSet:
    """The set that a NAME (a path prefix) means."""

    def __init__(self, name: str, access: Access = PLAIN, signers: Signers | None = None) -> None:
        """`signers`: only manifests that they signed are read.

        Raises NoSuchSet if NAME cannot be a set or its folder does not exist, and as choose.at.
        """
        self.name = name
        self._run = names.run_name(os.urandom(8))
        self.folder, self.base = choose.split(name)
        self.place = choose.at(self.folder, access)
        if not self.base:
            raise NoSuchSet(name, hint="NAME is a folder and the beginning of a file name")
        if not self.place.exists():
            raise NoSuchSet(name, hint=f"there is no folder {self.folder}")
        self.believed = None if signers is None else Believed(signers, self.place, self.base)

    def path(self, number: int, suffix: str) -> str:
        """Return the path of a version's file."""
        return self.place.path(names.member_name(self.base, number, suffix))

    def listing(self, files: Sequence[str] | None = None) -> names.Listing:
        """Return which files the set has now, and what NAME.ver names.  Raises StoreUnreadable.

        NAME.ver is read first: the version that it names is then in the folder already.
        `files`: names that were found in the folder before; else they are listed now.
        """
        ver = self._ver()
        try:
            found = names.list_set(self.base, self.place.names(f"{self.base}.") if files is None else files)
        except OSError as error:
            raise read_failed(error, self.folder) from None
        if found.sealed and not found.versions:
            raise Sealed(self.name, "a private key is needed")
        return replace(found, ver=ver, has_ver=ver is not None)

    def settled_listing(self, above: bool = True) -> names.Listing:
        """Return the same once no run is just publishing, or after a while of waiting for that.

        `above`: wait as well where it is not the first version.
        """
        until = time.monotonic() + _PATIENCE_S
        while True:
            found = self.listing()
            number = names.decode_ver(found.ver or b"")
            busy = not found.has_ver and len(found.versions) == 1
            busy = busy or (above and number is not None and bool(found.above(number)))
            if not busy or time.monotonic() > until:
                return found
            time.sleep(_PAUSE_S)

    def _ver(self) -> bytes | None:
        """Return the content of NAME.ver, None if it does not exist.  Raises StoreUnreadable."""
        path = self.place.path(names.ver_name(self.base))
        try:
            return self.place.first(path, 64)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise read_failed(error, path) from None

    @contextlib.contextmanager
    def locked(self, patience_s: float | None = None) -> Iterator[None]:
        """Hold the set's lock.  Raises SetLocked if another run still does after `patience_s`.

        It is the kernel's lock on an open file: it always ends with the process.  None: as long as
        a backup waits: in a folder, a run that only gives a rewritten version its names has it for a moment.
        """
        if patience_s is None:
            patience_s = 0 if self.place.claims else _LOCK_PATIENCE_S
        with self.place.locked(names.lock_name(self.base), patience_s):
            yield

    def newest(self, listing: names.Listing | None = None) -> int:
        """Return the newest published version, 0 for a set without versions.

        Raises ForeignFiles if NAME.ver is missing or damaged while there are versions.
        """
        listing = listing or self.listing()
        path = self.place.path(names.ver_name(self.base))
        if not listing.has_ver:
            if not listing.versions:
                return 0
            raise ForeignFiles(f"{path} is missing, but there are versions {_spell(listing.versions)}", hint=_MEND)
        number = names.decode_ver(listing.ver or b"")
        if number is None:
            raise ForeignFiles(f"{path} does not hold one number and a newline", hint=_MEND)
        if number not in listing.versions:
            raise ForeignFiles(f"{path} names {number}, but there is no such version", hint=_MEND)
        return number

    def size(self, number: int, suffix: str) -> int:
        """Return the size of one file in bytes.  Raises OSError."""
        return self.place.size(self.path(number, suffix))

    def hash(self, number: int, suffix: str) -> manifest.StoredFile:
        """Read one file and return its size and SHA-256.  Raises OSError."""
        return self.place.hash(self.path(number, suffix))

    def read_manifest(self, number: int) -> manifest.Manifest:
        """Return a version's manifest, whether or not it counts.  Raises FormatError or OSError.

        With signers: NotSigned if it is not signed, or of another set or version.
        """
        path = self.path(number, ".json")
        data = base.head(self.place, path, manifest.MAX_SIZE + 1)
        if self.believed is not None:
            data = self.believed.choose(path, data, self._drafts(number))
        found = manifest.decode(data)
        if self.believed is not None and (found.value.get("set"), found.version) != (self.base, number):
            raise NotSigned(path, f"it is of version {found.version} of {found.value.get('set')!r}")
        if found.version != number:
            raise FormatError(f"manifest is of version {found.version}")
        return found

    def _drafts(self, number: int) -> Iterator[str]:
        """Yield the paths of manifests that a rewrite of a version has written and not renamed yet."""
        for name in self.listing().parts:
            if names.member_of(self.base, name) == (number, ".json"):
                yield self.place.path(name)

    # writing

    def part(self, number: int, suffix: str) -> Part:
        """Open a new file of version `number` under its temporary name."""
        return self.place.part(names.member_name(self.base, number, suffix), self._run)

    def ver_is(self, newest: int) -> bool:
        """Return whether NAME.ver names this version; 0: whether there is none.  Raises StoreUnreadable."""
        return self._ver() == (names.encode_ver(newest) if newest else None)

    def goes_on_after(self, number: int) -> bool:
        """Return whether there is the manifest of a version after this one.  Raises OSError."""
        listing = names.list_set(self.base, self.place.names(f"{self.base}."))
        return any(".json" in listing.versions[later] for later in listing.above(number))

    def expect(self, newest: int) -> None:
        """Make sure that NAME.ver still names the version that it did when this run began.  Raises ForeignFiles."""
        if not self.ver_is(newest):
            why = f"{self.name}.ver was changed by another run during this one"
            raise ForeignFiles(why, hint="nothing of this run was published; run again")

    def publish_ver(self, number: int, after: int | None = None) -> None:
        """Let NAME.ver name this version: from then on the version exists.

        `after`: the version that it names until then.  Raises NoRoom, StoreFailed or ForeignFiles.
        """
        part = self.place.part(names.ver_name(self.base), self._run)
        try:
            part.write(names.encode_ver(number))
            part.close()
            if after is not None:
                self.expect(after)
            part.replace()
        finally:
            part.discard()
        self.sync()

    def sync(self) -> None:
        """Sync the place: its names then last.  Raises StoreFailed."""
        self.place.sync()


_MEND = "look with blockdiff-list; if version N is the newest good one, put N and a newline into it"


def _spell(numbers: Mapping[int, object]) -> str:
    ordered = sorted(numbers)
    return f"{ordered[0]} to {ordered[-1]}" if len(ordered) > 1 else str(ordered[0])
