"""A bucket of an object store, and what begins with a prefix there.

Only three things of a store are relied on: one PUT that makes an object if there is none, an upload in parts that
appears whole, and that a cancelled upload never appears.  No condition on what is there already, no rename: several
stores ignore those without a word.

Names are those of objects without the prefix.  What the store answers is another machine's: names are only data,
sizes are checked, and messages have all of it escaped.
"""

import datetime
import secrets
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from blockdiff.errors import ProgramUnfit, SetChanged, StoreUnreadable
from blockdiff.printable import name as printable_name

if TYPE_CHECKING:
    from blockdiff.place.client import Client

RETRIES = 4
READ_S = 60.0
MOST_NAMES = 1_000_000  # that a store can have us keep
_TOKEN = "blockdiff-run"  # metadata by which whoever made an object knows it


class Entry(NamedTuple):
    """An object."""

    size: int  # bytes
    modified: int  # seconds since 1970, by the store's clock
    etag: str  # without quotes; the MD5 in hex, of an upload in parts that of the parts' MD5s, "-" and their count
    version: str = ""  # empty unless the bucket keeps versions, and in what `list` returns
    locked_until: int | None = None  # seconds since 1970; only known to `head`


class Version(NamedTuple):
    """One version of an object, or a mark that it was deleted."""

    name: str
    entry: Entry
    newest: bool
    deleted: bool


class OpenUpload(NamedTuple):
    """An upload that was begun, and neither completed nor cancelled."""

    name: str
    id: str
    begun: int  # seconds since 1970


class Bucket:
    """One bucket and prefix, for any thread.

    Every method may raise StoreUnreachable, StoreRefused (keys, bucket, what the store cannot do) and, after
    retries, StoreUnreadable or, of those that change something, StoreFailed or NoRoom.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        read_s: float = READ_S,
        retries: int = RETRIES,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Take endpoint and keys from the environment and ~/.aws; asks nothing of the store.

        `prefix`: as it is, with its last "/"; `read_s`: how long one answer may take.
        Raises StoreRefused if there are no settings to begin with, ProgramUnfit without botocore.
        """

    def shown(self, name: str = "") -> str:
        """Return s3://BUCKET/KEY for messages, safe to print."""

    def close(self) -> None:
        """Close its connections."""

    def now(self) -> int:
        """Return the store's clock at its last answer, in seconds since 1970; asks it if there was none."""

    def list(self, begin: str = "") -> dict[str, Entry]:
        """Return the objects whose names begin so, but for those with a "/" behind that."""

    def head(self, name: str, version: str = "") -> Entry | None:
        """Return an object, None if there is none of this name (or no such bucket: that looks the same)."""

    def get_range(self, name: str, offset: int, length: int, *, etag: str = "", version: str = "") -> bytes:
        """Return these bytes, exactly `length` (at least 1).

        `etag`: that it must have.  Raises FileNotFoundError; SetChanged if it has another one or is shorter.
        """

    def create_once(
        self, name: str, data: bytes, *, lock_until: int | None = None, storage_class: str | None = None
    ) -> bool:
        """Make an object unless there is one of this name, and return whether this call has made it.

        That a store does not know this condition shows only in a second call, which then returns True, or raises
        StoreRefused. `lock_until`: seconds since 1970, until when nobody can delete this version.
        """

    def put(self, name: str, data: bytes) -> None:
        """Make an object, or replace it."""

    def delete(self, name: str) -> None:
        """Delete an object, if it is there; where versions are kept, they stay."""

    def delete_version(self, name: str, version: str) -> None:
        """Delete one version for good.  Raises StoreRefused, also while it is locked."""

    def set_retention(self, name: str, version: str, until: int) -> None:
        """Lock a version until then, in seconds since 1970: later than before, or StoreRefused is raised."""

    def versions(self, begin: str = "") -> "list[Version]":
        """Return all versions of all objects whose names begin so."""

    def uploads(self, begin: str = "") -> "list[OpenUpload]":
        """Return the uploads that are open for names that begin so."""

    def abort(self, upload: OpenUpload) -> None:
        """Cancel an upload, if it is still open."""

    def upload(
        self, name: str, *, most: int | None = None, lock_until: int | None = None, storage_class: str | None = None
    ) -> "Upload":
        """Begin an upload in parts; `most`: bytes that it will have at most, where that is known.

        Upload has `write(data)`, `complete()`, `discard()`, `size` and `etag` (as the store has it when completed).
        """
