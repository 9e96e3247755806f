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
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor

from blockdiff.errors import SetLocked, StoreRefused
from blockdiff.formats import names as set_names
from blockdiff.formats.manifest import StoredFile
from blockdiff.place import lease, mark
from blockdiff.place.ahead import AHEAD, WHOLE, Begins, Fetch, Shares
from blockdiff.place.base import Access, Look, hash_of
from blockdiff.place.bucket import Bucket
from blockdiff.place.folder import Folder
from blockdiff.place.known import Known
from blockdiff.place.lease import Lease
from blockdiff.place.listing import Entry, as_of
from blockdiff.place.newobject import MOST, Uploaded, Whole
from blockdiff.place.object import Object, look_of

_SMALL = (".md5", ".json", ".idx", ".xxh128", ".sig", ".ver")  # what is no diff file
_SMALL_KEPT = 64  # small files
_DIGESTS = (".md5", ".xxh128")
_FETCHES = 8  # at once
_BEGINS = 16 * 1024 * 1024  # bytes of small files, and of what others begin with, that are kept
_HEAD = 64  # bytes that are fetched of a file that was not listed


class Store:
    """See place.base.Place."""

    blind = False
    checks = True
    most_beside: int | None = MOST
    sealed = False

    def __init__(self, path: str, access: Access) -> None:
        """`path`: s3://BUCKET or s3://BUCKET/PREFIX.  Nothing is asked of the store yet."""
        self.at, self.access, self.claims = path, access, not access.alone
        bucket, _, prefix = path.partition("://")[2].partition("/")
        self._where = bucket, f"{prefix}/" if prefix else ""
        self.bucket = Bucket(*self._where)
        self.known = Known(forever=access.as_of is not None)
        self._small: OrderedDict[tuple[str, ...], Object] = OrderedDict()  # files that one request reads
        self._lock = threading.Lock()
        self._hashes: dict[tuple[str, Entry], StoredFile] = {}
        self.pool: Executor = ThreadPoolExecutor(_FETCHES, thread_name_prefix="fetch")
        self.begins, self.shares = Begins(self.pool, _BEGINS), Shares(AHEAD)

    def exists(self) -> bool:
        return True

    def is_folder(self, base: str) -> bool:
        """Return whether there is no set of this name, but what is like a folder."""
        with contextlib.suppress(StoreRefused):  # a key may be for this "folder" alone
            if base in set_names.set_names(self.names(f"{base}.")):
                return False
        if self.access.as_of is None:
            return self.bucket.any(f"{base}/")
        return bool(self.bucket.versions(f"{base}/"))

    def path(self, name: str) -> str:
        return f"{self.at}/{name}"

    def names(self, begin: str = "") -> list[str]:
        known = self.known.names(begin)
        return list(self.relist(begin)) if known is None else known

    def relist(self, begin: str) -> dict[str, Entry]:
        """Ask for the objects whose names begin so."""
        if self.access.as_of is None:
            found = self.bucket.list(begin)
        else:
            found = as_of(self.bucket.versions(begin), self.access.as_of)
        self.known.put(begin, found)
        return found

    def listed(self, begin: str) -> list[str]:
        """Return the names that begin so of those that were listed."""
        return [name for name in self.known.listed if name.startswith(begin)]

    def look(self, path: str) -> Look:
        return look_of(self._entry(path)[0])

    def first(self, path: str, most: int) -> bytes:
        if self.access.as_of is not None or set_names.owner(self._name(path), self.known.leases):
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
        if not self.known.leases:  # who writes reads only the version before, and counts its requests
            self.begins.expect(self._soon(paths, max(most, WHOLE), first))

    def _soon(self, paths: Iterable[str], most: int, first: int) -> Iterator[tuple[tuple[str, Entry], int, Fetch]]:
        for path in paths:
            name = self._name(path)
            entry = self.known.listed.get(name)
            if entry is not None:
                length = entry.size if entry.size <= most else first
                yield (name, entry), length, functools.partial(self.fetch, name, entry)

    def size(self, path: str) -> int:
        return self._entry(path)[0].size

    def looks(self, paths: Iterable[str]) -> dict[str, Look | None]:
        wanted = {path: self._name(path) for path in paths}
        if wanted:
            self.relist(os.path.commonprefix(list(wanted.values())))  # noqa: RUF071  # letters: a key has no folders
        found = self.known.listed
        return {path: look_of(found[name]) if name in found else None for path, name in wanted.items()}

    def open(self, path: str) -> Object:
        name, (entry, begin) = self._name(path), self._entry(path)
        key = name, entry.etag, entry.version
        with self._lock:
            if key in self._small:
                return self._small[key].again()
            found = Object(self, name, entry, begin)
            again = bool(self.known.leases) and name.endswith(_DIGESTS)  # who writes reads those of the parent often
            if again and entry.size > WHOLE:
                found.keep()
            if again or entry.size <= WHOLE:
                self._small[key] = found
                while len(self._small) > _SMALL_KEPT:
                    self._small.popitem(last=False)
            return found

    def fetch(self, name: str, entry: Entry, length: int, offset: int) -> bytes:
        """Return these bytes of an object; see Bucket.get_range."""
        return self.bucket.get_range(name, offset, length, mark=entry.etag, version=entry.version)

    def as_sent(self, path: str, progress: Callable[[int], object]) -> bool | None:
        with contextlib.closing(self.open(path)) as blob:
            found = mark.fits(blob, progress)
        if found is False and not self.bucket.marked_by_md5(self._name(path), self._entry(path)[0]):
            return None
        return found

    def part(self, name: str, run: str) -> Whole | Uploaded:
        target = _Target(self, name)
        return Whole(target, name) if name.removesuffix(".age").endswith(_SMALL) else Uploaded(target, name)

    def remove(self, path: str) -> None:
        name = self._name(path)
        _Target(self, name).allow(last=True)  # nothing keeps this from what another run has made of this name
        self.known.change(name)
        self._urgent.delete(name)

    def made_by_us(self, path: str) -> bool:
        return self.bucket.made_by_us(self._name(path))

    def cancel(self, begin: str, wanted: Callable[[str], bool]) -> None:
        for upload in self.bucket.uploads(begin):
            if wanted(upload.name):
                self.bucket.abort(upload)

    @contextlib.contextmanager
    def alone(self, path: str) -> Iterator[None]:
        """The lock of the set keeps others away; what they upload is fenced."""
        yield

    def sweep(self, path: str) -> bool:
        """It is none of ours: nothing is written here under a temporary name."""
        return True

    def retain(self, path: str, until: int) -> None:
        self.bucket.lock(self._name(path), until)

    def retained(self, path: str) -> int:
        found = self.bucket.head(self._name(path))
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return found.locked_until or 0

    def keeps_removed(self) -> bool | None:
        return self.bucket.keeps_versions()

    def sync(self) -> None:
        """A store has no names that would be lost."""

    @contextlib.contextmanager
    def locked(self, name: str, patience_s: float) -> Iterator[None]:
        base = name.removesuffix(".lock")
        # a set without a lease was copied there: a run that writes straight leaves its last one
        if not self.access.alone and (not self.access.locks or lease.any_of(base, self.relist(base))):
            with self._leased(base, patience_s):
                yield
            return
        here = hashlib.sha256(self.path(name).encode("utf-8", "surrogateescape")).hexdigest()[:32]
        try:
            with Folder(self.access.locks).locked(f"{here}.lock", patience_s), self.known.locked(base, None):
                yield
        except SetLocked as error:
            if error.args[0] != os.path.join(self.access.locks, here):
                raise
            raise SetLocked(self.path(base)) from None

    def room(self) -> int | None:
        return None

    @functools.cached_property
    def _urgent(self) -> Bucket:
        """The same bucket, for what must not take long."""
        return Bucket(*self._where, read_s=lease.READ_S, retries=lease.RETRIES)

    @contextlib.contextmanager
    def _leased(self, base: str, patience_s: float) -> Iterator[None]:
        own = Lease(self._urgent, base, may_break=self.access.break_lease)
        with own.held(lambda: self.relist(base), patience_s), self.known.locked(base, own):
            yield

    def _name(self, path: str) -> str:
        return path[len(self.at) + 1 :]

    def _entry(self, path: str) -> tuple[Entry, bytes]:
        """Return what is known of an object, and its first bytes if it was asked for because nobody listed it."""
        name = self._name(path)
        found, listed = self.known.entry(name)
        if found is None and not listed:
            if self.access.as_of is None:
                return self._unlisted(path, _HEAD)
            found = self.relist(name).get(name)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return found, b""

    def _unlisted(self, path: str, most: int) -> tuple[Entry, bytes]:
        name = self._name(path)
        try:
            found = self.bucket.first(name, most)
        except StoreRefused:  # as many stores say of what is not there, if a key may list only some names
            if name in self.bucket.list(name):
                raise
            found = None
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return found


class _Target:
    """See place.newobject.Target."""

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name, self.access = store, name, store.access
        self._base = set_names.owner(name, store.known.leases)
        self._lease = None if self._base is None else store.known.leases[self._base]
        self.bucket = store._urgent if self._lease is not None and name.endswith(".json") else store.bucket

    def allow(self, last: bool = False, asked: bool = False) -> None:
        if self._lease is not None:
            (self._lease.confirm if asked else self._lease.secure if last else self._lease.check)()

    def found(self) -> Entry | None:
        if self._base is None:
            return self.bucket.head(self._name)
        if not self._store.known.is_fresh(self._base):
            self._store.relist(self._base)
        return self._store.known.listed.get(self._name)

    def taken(self) -> bool:
        if self._base is None:
            return self.bucket.head(self._name) is not None
        return self._name in self._store.known.listed

    def changed(self) -> None:
        self._store.known.change(self._name)
