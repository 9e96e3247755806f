"""A place in an object store: the objects of a bucket whose keys begin with one prefix, without what is deeper.

Each object is a file of the same name.  One request lists them with sizes, times and marks, and what was
listed is not asked for again.  A file that is open has the mark of its bytes in each request: what was
replaced meanwhile is not read.  What was, at a time in the past, never changes, and is listed once.
Format: blockdiff-formats(5), "Object stores".
"""

import contextlib
import errno
import functools
import hashlib
import os
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from blockdiff.errors import SetLocked, StoreRefused
from blockdiff.formats.manifest import StoredFile
from blockdiff.formats.names import set_names
from blockdiff.place.ahead import Begins, Fetch, Pages, Parts
from blockdiff.place.base import Access, Look, hash_of
from blockdiff.place.bucket import Bucket
from blockdiff.place.folder import Folder
from blockdiff.place.listing import Entry, Version
from blockdiff.place.newobject import Uploaded, Whole

_SMALL = (".md5", ".json", ".idx", ".xxh128", ".sig", ".ver")  # what is no diff file
_FETCHES = 8  # at once
_AHEAD = 32 * 1024 * 1024  # bytes of a file that are fetched before they are asked for
_BEGINS = 16 * 1024 * 1024  # bytes of small files, and of what others begin with, that are kept
_HEAD = 64  # bytes that are fetched of a file that was not listed


class Object:
    """An object that is open for reading; see place.base.Blob."""

    def __init__(
        self, store: "Store", name: str, entry: Entry, begin: bytes = b"", pages: Pages | Parts | None = None
    ) -> None:
        """`begin`: its first bytes, as far as they are known."""
        self._store, self._name, self._entry, self._begin = store, name, entry, begin
        self._pages = pages or self._paged()

    @property
    def size(self) -> int:
        return self._entry.size

    def look(self) -> Look:
        return _look(self._entry)

    def pread(self, length: int, offset: int) -> bytes:
        end = min(offset + length, self.size)
        begin: bytes | None = self._begin
        if len(self._begin) < end:
            begin = self._store.begins.of((self._name, self._entry), end)
        return self._pages.pread(length, offset) if begin is None else begin[offset:end]

    def in_order(self) -> None:
        pages = self._paged()
        pages.in_order()
        self._pages = pages

    def expect(self, parts: Iterable[tuple[int, int]]) -> None:
        self._pages = Parts(self._fetch, parts, self.size, self._store.pool, _AHEAD)

    def again(self) -> "Object":
        return Object(self._store, self._name, self._entry, self._begin, self._pages)

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        pass

    def _paged(self) -> Pages:
        return Pages(self._fetch, self.size, self._store.pool, _AHEAD)

    def _fetch(self, length: int, offset: int) -> bytes:
        return self._store.fetch(self._name, self._entry, length, offset)


class Store:
    """See place.base.Place."""

    sealed = False

    def __init__(self, path: str, access: Access) -> None:
        """`path`: s3://BUCKET or s3://BUCKET/PREFIX.  Nothing is asked of the store yet."""
        self.at, self._access = path, access
        bucket, _, prefix = path.partition("://")[2].partition("/")
        self._bucket = Bucket(bucket, f"{prefix}/" if prefix else "")
        self._listed: dict[str, Entry] = {}  # by name
        self._begins: list[str] = []  # what all names that were listed begin with
        self._lock = threading.Lock()
        self._hashes: dict[tuple[str, Entry], StoredFile] = {}
        self.pool = ThreadPoolExecutor(_FETCHES, thread_name_prefix="fetch")
        self.begins = Begins(self.pool, _BEGINS)

    def exists(self) -> bool:
        return True

    def is_folder(self, base: str) -> bool:
        """Return whether there is no set of this name, but what is like a folder."""
        with contextlib.suppress(StoreRefused):  # a key may be for this "folder" alone
            if base in set_names(self.names(f"{base}.")):
                return False
        if self._access.as_of is None:
            return self._bucket.any(f"{base}/")
        return bool(self._bucket.versions(f"{base}/"))

    def path(self, name: str) -> str:
        return f"{self.at}/{name}"

    def names(self, begin: str = "") -> list[str]:
        if self._access.as_of is None:
            found = self._bucket.list(begin)
        elif self._is_listed(begin):
            return self.listed(begin)
        else:
            found = self._then(begin, self._access.as_of)
        with self._lock:
            self._listed = {name: at for name, at in self._listed.items() if not name.startswith(begin)} | found
            self._begins = [each for each in self._begins if not each.startswith(begin)] + [begin]
        return list(found)

    def listed(self, begin: str) -> list[str]:
        """Return the names that begin so of those that were listed."""
        return [name for name in self._listed if name.startswith(begin)]

    def look(self, path: str) -> Look:
        return _look(self._entry(path)[0])

    def first(self, path: str, most: int) -> bytes:
        if self._access.as_of is not None:
            return self.open(path).pread(most, 0)
        return self._unlisted(path, most)[1]

    def hash(self, path: str) -> StoredFile:
        name, found = self._name(path), self.open(path)
        key = name, self._entry(path)[0]
        if key not in self._hashes:
            found.in_order()
            self._hashes[key] = hash_of(found)
        return self._hashes[key]

    def soon(self, paths: Iterable[str], most: int, first: int = 0) -> None:
        self.begins.expect(self._soon(paths, most, first))

    def _soon(self, paths: Iterable[str], most: int, first: int) -> Iterator[tuple[tuple[str, Entry], int, Fetch]]:
        for path in paths:
            name = self._name(path)
            entry = self._listed.get(name)
            if entry is not None:
                length = entry.size if entry.size <= most else first
                yield (name, entry), length, functools.partial(self.fetch, name, entry)

    def size(self, path: str) -> int:
        return self._entry(path)[0].size

    def looks(self, paths: Iterable[str]) -> dict[str, Look | None]:
        wanted = {path: self._name(path) for path in paths}
        if wanted:
            self.names(os.path.commonprefix(list(wanted.values())))  # noqa: RUF071  # letters: a key has no folders
        found = self._listed
        return {path: _look(found[name]) if name in found else None for path, name in wanted.items()}

    def open(self, path: str) -> Object:
        return Object(self, self._name(path), *self._entry(path))

    def fetch(self, name: str, entry: Entry, length: int, offset: int) -> bytes:
        """Return these bytes of an object; see Bucket.get_range."""
        return self._bucket.get_range(name, offset, length, mark=entry.etag, version=entry.version)

    def part(self, name: str, run: str) -> Whole | Uploaded:
        if name.removesuffix(".age").endswith(_SMALL):
            return Whole(self._bucket, name, self._access)
        return Uploaded(self._bucket, name, self._access)

    def sync(self) -> None:
        """A store has no names that would be lost."""

    @contextlib.contextmanager
    def locked(self, name: str, patience_s: float) -> Iterator[None]:
        here = hashlib.sha256(self.path(name).encode("utf-8", "surrogateescape")).hexdigest()[:32]
        try:
            with Folder(self._access.locks).locked(f"{here}.lock", patience_s):
                yield
        except SetLocked as error:
            if error.args[0] != os.path.join(self._access.locks, here):
                raise
            raise SetLocked(self.path(name.removesuffix(".lock"))) from None

    def room(self) -> int | None:
        return None

    def _then(self, begin: str, time: int) -> dict[str, Entry]:
        """Return the objects as they were at the end of this second, whatever was done to them since."""
        found: dict[str, Version] = {}
        for each in self._bucket.versions(begin):
            if each.entry.modified <= time and "/" not in each.name:
                known = found.get(each.name)
                if known is None or _order(known) < _order(each):
                    found[each.name] = each
        return {name: each.entry for name, each in found.items() if not each.deleted}

    def _name(self, path: str) -> str:
        return path[len(self.at) + 1 :]

    def _is_listed(self, begin: str) -> bool:
        with self._lock:
            return any(begin.startswith(each) for each in self._begins)

    def _entry(self, path: str) -> tuple[Entry, bytes]:
        """Return what is known of an object, and its first bytes if it was asked for because nobody listed it."""
        name = self._name(path)
        with self._lock:
            found = self._listed.get(name)
        if found is None and not self._is_listed(name):
            if self._access.as_of is None:
                return self._unlisted(path, _HEAD)
            self.names(name)
            found = self._listed.get(name)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return found, b""

    def _unlisted(self, path: str, most: int) -> tuple[Entry, bytes]:
        name = self._name(path)
        try:
            found = self._bucket.first(name, most)
        except StoreRefused:  # as many stores say of what is not there, if a key may list only some names
            if name in self._bucket.list(name):
                raise
            found = None
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return found


def _order(version: Version) -> tuple[int, bool, bool]:
    """Return what is larger for the later of two versions of an object; of one second, a deletion is the earlier."""
    return version.entry.modified, version.newest, not version.deleted


def _look(entry: Entry) -> Look:
    return Look(entry.size, entry.modified * 10**9, entry.etag)
