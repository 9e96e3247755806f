"""A bucket of an object store, and what begins with a prefix there.

Only three things of a store are relied on: one PUT that makes an object if there is none, an upload in parts that
appears whole, and that a cancelled upload never appears.  No condition on what is there already, no rename: several
stores ignore those without a word.

Names are those of objects without the prefix.  What the store answers is another machine's: names are only data,
sizes are checked, and messages have all of it escaped.
"""

import builtins
import datetime
import errno
import os
import re
import secrets
import time
from collections.abc import Callable
from typing import Any, BinaryIO, TypeVar

from blockdiff.errors import ProgramUnfit, SetChanged, StoreFailed, StoreRefused, StoreUnreadable
from blockdiff.place import listing
from blockdiff.place.answers import Answer, Refused, Unknown, etag, itself, md5, md5_header
from blockdiff.place.listing import Entry, OpenUpload, Version, entry
from blockdiff.place.upload import Upload, cancel
from blockdiff.printable import name as printable_name

T = TypeVar("T")

RETRIES = 4
READ_S = 60.0
_NO_LOCK = "only a bucket that was made with object lock can lock an object"
_TOKEN = "blockdiff-run"  # metadata by which whoever made an object knows it


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
        try:
            from blockdiff.place.client import Client
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "botocore":
                raise
            hint = "pip install 'blockdiff[s3]'"
            raise ProgramUnfit("the Python library botocore", "it is not installed", hint=hint) from None
        self._client = Client(bucket, read_s, retries, sleep)
        self._bucket, self._prefix = bucket, prefix

    def shown(self, name: str = "") -> str:
        """Return s3://BUCKET/KEY for messages, safe to print."""
        return printable_name(f"s3://{self._bucket}/{self._prefix}{name}")

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def now(self) -> int:
        """Return the store's clock at its last answer, in seconds since 1970; asks it if there was none."""
        if self._client.date is None:
            self.any()
        if self._client.date is None:
            raise StoreUnreadable(self.shown(), "the store does not say what time it is")
        return self._client.date

    def list(self, begin: str = "") -> dict[str, Entry]:
        """Return the objects whose names begin so, but for those with a "/" behind that."""
        return listing.objects(self._where(begin))

    def any(self, begin: str = "") -> bool:
        """Return whether there is an object whose name begins so, also with a "/" behind that."""
        prefix = self._prefix + begin
        return bool(self._ask("list_objects_v2", self.shown(begin), Prefix=prefix, MaxKeys=1).get("Contents"))

    def head(self, name: str, version: str = "") -> Entry | None:
        """Return an object, None if there is none of this name (or no such bucket: that looks the same)."""
        answer = self._head(name, version)
        return None if answer is None else entry(answer, answer["ContentLength"])

    def get_range(self, name: str, offset: int, length: int, *, mark: str = "", version: str = "") -> bytes:
        """Return these bytes, exactly `length` (at least 1).

        `mark`: the etag that it must have.  Raises FileNotFoundError; SetChanged if it has another, or is shorter.
        """
        asked: dict[str, Any] = {"Range": f"bytes={offset}-{offset + length - 1}"}
        asked |= {"IfMatch": f'"{mark}"'} if mark else {}
        asked |= {"VersionId": version} if version else {}

        def whole(answer: Answer) -> bytes:
            with answer["Body"] as body:
                sent = re.fullmatch(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})", str(answer.get("ContentRange")))
                if sent and int(sent[3]) < offset + length:
                    raise SetChanged(self.shown(name))
                if not sent or (int(sent[1]), int(sent[2])) != (offset, offset + length - 1):
                    raise Unknown("other bytes were sent than asked for")
                data: bytes = body.read(length + 1)
            if len(data) != length:
                raise Unknown(f"{len(data)} bytes were sent, not {length}")
            return data

        try:
            return self._client.call(
                "get_object", self.shown(name), then=whole, expect=(404, 412, 416), Key=self._prefix + name, **asked
            )
        except Refused as error:
            if error.status != 404:
                raise SetChanged(self.shown(name)) from None
            if error.code == "NoSuchBucket":
                raise error.ours(self.shown(name)) from None
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.shown(name)) from None

    def first(self, name: str, most: int) -> tuple[Entry, bytes] | None:
        """Return an object as it is now, and its first bytes, `most` at most; None if there is none of this name."""

        def begin(answer: Answer) -> tuple[Entry, bytes]:
            with answer["Body"] as body:
                sent = re.fullmatch(r"bytes 0-(\d{1,19})/(\d{1,19})", str(answer.get("ContentRange")))
                size = int(sent[2]) if sent else 0
                if not sent or int(sent[1]) + 1 != min(most, size):
                    raise Unknown("other bytes were sent than asked for")
                data: bytes = body.read(most + 1)
            if len(data) != min(most, size):
                raise Unknown(f"{len(data)} bytes were sent, not {min(most, size)}")
            return entry(answer, size), data

        try:
            return self._client.call(
                "get_object", self.shown(name), then=begin, expect=(404, 416),
                Key=self._prefix + name, Range=f"bytes=0-{most - 1}",
            )  # fmt: skip
        except Refused as error:
            if error.code == "NoSuchBucket":
                raise error.ours(self.shown(name)) from None
            empty = self.head(name) if error.status == 416 else None
            return None if empty is None else (empty, b"")

    def create_once(
        self, name: str, data: bytes | BinaryIO, *, lock_until: int | None = None, storage_class: str | None = None
    ) -> bool:
        """Make an object unless there is one of this name, and return whether this call has made it.

        `data`: also a file of at most 5 GiB, all of which is read three times, from its begin on.
        That a store does not know this condition shows only in a second call, which then returns True, or raises
        StoreRefused. `lock_until`: seconds since 1970, until when nobody can delete this version.
        """
        stored = _stored(lock_until, storage_class)
        sent_again = False  # then an attempt whose answer was lost may have made it

        def once_more() -> bool:
            nonlocal sent_again
            sent_again = True
            return True

        try:
            self._put(name, data, expect=(400, 412), IfNoneMatch="*", wanted=once_more, **stored)
        except Refused as error:
            if error.status != 412:
                raise error.ours(self.shown(name), _NO_LOCK if lock_until else "") from None
            answer = self._head(name) if sent_again else None
            return answer is not None and answer.get("Metadata", {}).get(_TOKEN) == stored["Metadata"][_TOKEN]
        return True

    def put(self, name: str, data: bytes | BinaryIO, *, lock_until: int | None = None) -> None:
        """Make an object, or replace it; see `create_once`."""
        try:
            self._put(name, data, expect=(400,), **_stored(lock_until, None))
        except Refused as error:
            raise error.ours(self.shown(name), _NO_LOCK if lock_until else "") from None

    def delete(self, name: str) -> None:
        """Delete an object, if it is there; where versions are kept, they stay."""
        self._ask("delete_object", self.shown(name), writes=True, Key=self._prefix + name)

    def set_retention(self, name: str, version: str, until: int) -> None:
        """Lock a version until then, in seconds since 1970: later than before, or StoreRefused is raised."""
        retention = {"Mode": "COMPLIANCE", "RetainUntilDate": _date(until)}
        asked = {"Key": self._prefix + name, "VersionId": version, "Retention": retention}
        self._ask("put_object_retention", self.shown(name), writes=True, **asked)

    def made_by_us(self, name: str) -> bool:
        """Return whether a run of this program has made an object."""
        answer = self._head(name)
        return answer is not None and _TOKEN in answer.get("Metadata", {})

    def marked_by_md5(self, name: str, known: Entry) -> bool:
        """Return whether an object's etag is made of the MD5s of what was sent; if in parts, of the sizes of ours.

        Raises SetChanged if it has another etag now.
        """
        answer = self._head(name, known.version)
        if answer is None or etag(answer) != known.etag:
            raise SetChanged(self.shown(name))
        own_key = "SSECustomerAlgorithm" in answer or str(answer.get("ServerSideEncryption")).startswith("aws:")
        return not own_key and ("-" not in known.etag or _TOKEN in answer.get("Metadata", {}))

    def lock(self, name: str, until: int) -> None:
        """Lock an object as it is now, so that nobody can delete it before then; a longer lock stays."""
        found = self.head(name)
        if found is None:
            raise StoreFailed(self.shown(name), "the object store does not have what was sent")
        if not found.version:
            raise StoreRefused(self.shown(name), _NO_LOCK)
        if found.locked_until is None or found.locked_until < until:
            self.set_retention(name, found.version, until)

    def keeps_versions(self) -> bool | None:
        """Return whether what is deleted or replaced stays as an older version; None: nobody may ask."""
        try:
            return bool(self._ask("get_bucket_versioning", self.shown()).get("Status") == "Enabled")
        except StoreRefused:
            return None

    def versions(self, begin: str = "") -> builtins.list[Version]:
        """Return all versions of all objects whose names begin so."""
        return listing.versions(self._where(begin))

    def uploads(self, begin: str = "") -> builtins.list[OpenUpload]:
        """Return the uploads that are open for names that begin so."""
        return listing.uploads(self._where(begin))

    def abort(self, upload: OpenUpload) -> None:
        """Cancel an upload, if it is still open."""
        cancel(self._client, self._prefix + upload.name, self.shown(upload.name), upload.id)

    def upload(self, name: str, *, most: int | None = None, storage_class: str | None = None) -> Upload:
        """Begin an upload in parts; `most`: bytes that it will have at most, where that is known.

        To lock it, call `set_retention` when it is completed: some stores ignore a lock that an upload begins with.
        """
        return Upload(self._client, self._prefix + name, self.shown(name), most, _stored(None, storage_class))

    def _where(self, begin: str) -> listing.Where:
        return listing.Where(self._client, self._bucket, self._prefix, begin, self.shown(begin))

    def _ask(self, operation: str, shown: str, *, writes: bool = False, **asked: Any) -> Answer:
        return self._client.call(operation, shown, writes=writes, then=itself, **asked)

    def _put(self, name: str, data: bytes | BinaryIO, expect: tuple[int, ...] = (), **asked: Any) -> None:
        asked |= {"Key": self._prefix + name, "Body": data, "ContentMD5": md5_header(md5(data))}
        self._client.call("put_object", self.shown(name), writes=True, expect=expect, then=itself, **asked)

    def _head(self, name: str, version: str = "") -> Answer | None:
        asked: dict[str, Any] = {"VersionId": version} if version else {}
        asked["Key"] = self._prefix + name
        try:
            return self._client.call("head_object", self.shown(name), expect=(404,), then=itself, **asked)
        except Refused:
            return None


def _stored(lock_until: int | None, storage_class: str | None) -> dict[str, Any]:
    """Return how a new object is to be stored, as a request has it."""
    asked: dict[str, Any] = {"Metadata": {_TOKEN: secrets.token_hex(16)}}
    if storage_class is not None:
        asked["StorageClass"] = storage_class
    if lock_until is not None:
        asked |= {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": _date(lock_until)}
    return asked


def _date(seconds: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)
