"""A place in an object store: the objects of a bucket whose keys begin with one prefix, without what is deeper.

Each object is a file of the same name.  One request lists them with sizes, times and marks, and what was
listed is not asked for again.  A file that is open has the mark of its bytes in each request: what was
replaced meanwhile is not read.
Format: blockdiff-formats(5), "Object stores".
"""

import contextlib
import errno
import hashlib
import os
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor

from blockdiff.errors import SetLocked
from blockdiff.place.ahead import Pages
from blockdiff.place.base import Access, Look
from blockdiff.place.bucket import Bucket
from blockdiff.place.folder import Folder
from blockdiff.place.listing import Entry
from blockdiff.place.newobject import Uploaded, Whole

_SMALL = (".md5", ".json", ".idx", ".xxh128", ".sig", ".ver")  # what is no diff file
_FETCHES = 8  # at once
_AHEAD = 32 * 1024 * 1024  # bytes of a file that are fetched before they are asked for


class Object:
    """An object that is open for reading; see place.base.Blob."""

    def __init__(self, bucket: Bucket, name: str, entry: Entry, pool: Executor, pages: Pages | None = None) -> None:
        self._bucket, self._name, self._entry, self._pool = bucket, name, entry, pool
        self._pages = pages or self._paged()

    @property
    def size(self) -> int:
        return self._entry.size

    def look(self) -> Look:
        return _look(self._entry)

    def pread(self, length: int, offset: int) -> bytes:
        return self._pages.pread(length, offset)

    def in_order(self) -> None:
        self._pages = self._paged()
        self._pages.in_order()

    def again(self) -> "Object":
        return Object(self._bucket, self._name, self._entry, self._pool, self._pages)

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        pass

    def _paged(self) -> Pages:
        return Pages(self._fetch, self._entry.size, self._pool, _AHEAD)

    def _fetch(self, length: int, offset: int) -> bytes:
        return self._bucket.get_range(self._name, offset, length, mark=self._entry.etag, version=self._entry.version)


class Store:
    """See place.base.Place."""

    def __init__(self, path: str, access: Access) -> None:
        """`path`: s3://BUCKET or s3://BUCKET/PREFIX.  Nothing is asked of the store yet."""
        self.at, self._access = path, access
        bucket, _, prefix = path.partition("://")[2].partition("/")
        self._bucket = Bucket(bucket, f"{prefix}/" if prefix else "")
        self._listed: dict[str, Entry] = {}  # by name
        self._begins: list[str] = []  # what all names that were listed begin with
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(_FETCHES, thread_name_prefix="fetch")

    def exists(self) -> bool:
        return True

    def has(self, begin: str) -> bool:
        """Return whether there is anything whose name begins so, also with a "/" in it."""
        return self._bucket.any(begin)

    def path(self, name: str) -> str:
        return f"{self.at}/{name}"

    def names(self, begin: str = "") -> list[str]:
        found = self._bucket.list(begin) if self._access.as_of is None else self._then(begin, self._access.as_of)
        with self._lock:
            self._listed = {name: at for name, at in self._listed.items() if not name.startswith(begin)} | found
            self._begins = [each for each in self._begins if not each.startswith(begin)] + [begin]
        return list(found)

    def look(self, path: str) -> Look:
        return _look(self._entry(path))

    def looks(self, paths: Iterable[str]) -> dict[str, Look | None]:
        wanted = {path: self._name(path) for path in paths}
        if wanted:
            self.names(os.path.commonprefix(list(wanted.values())))  # noqa: RUF071  # letters: a key has no folders
        found = self._listed
        return {path: _look(found[name]) if name in found else None for path, name in wanted.items()}

    def open(self, path: str) -> Object:
        return Object(self._bucket, self._name(path), self._entry(path), self._pool)

    def part(self, name: str, run: str) -> Whole | Uploaded:
        if name.endswith(_SMALL):
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
        """Return the objects as they were at a time, also those that were deleted before."""
        found: dict[str, Entry] = {}
        for each in self._bucket.versions(begin):
            known = found.get(each.name)
            counts = not each.deleted and "/" not in each.name and each.entry.modified <= time
            if counts and (known is None or known.modified < each.entry.modified):
                found[each.name] = each.entry
        return found

    def _name(self, path: str) -> str:
        return path[len(self.at) + 1 :]

    def _entry(self, path: str) -> Entry:
        """Return what is known of an object; it is asked for only if its name was not listed."""
        name = self._name(path)
        with self._lock:
            found = self._listed.get(name)
            listed = any(name.startswith(begin) for begin in self._begins)
        if found is None and not listed:
            found = self._bucket.head(name)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return found


def _look(entry: Entry) -> Look:
    return Look(entry.size, entry.modified * 10**9, entry.etag)
