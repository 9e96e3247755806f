"""What an object store lists: objects, their versions, and uploads under way; page after page.

All of it comes from another machine: names are only data, and a list that does not end is ended.
"""

import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from blockdiff.errors import StoreUnreadable
from blockdiff.place.answers import Answer, Unknown, etag

if TYPE_CHECKING:
    from blockdiff.place.client import Client

T = TypeVar("T")

MOST_NAMES = 1_000_000  # that a store can have us keep


class Entry(NamedTuple):
    """An object."""

    size: int  # bytes
    modified: int  # seconds since 1970, by the store's clock
    etag: str  # without quotes; the MD5 in hex, of an upload in parts that of the parts' MD5s, "-" and their count
    version: str = ""  # empty unless the bucket keeps versions, and in a list of objects
    locked_until: int | None = None  # seconds since 1970; in no list


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


class Where(NamedTuple):
    """What a list is of; the names in it are without `before`."""

    client: "Client"
    bucket: str
    before: str  # with which the keys begin
    begin: str  # with which the names begin
    shown: str  # what messages call it


def entry(one: Answer, size: object) -> Entry:
    """Return the Entry of an answer or of a part of one; for a `then`, which may raise anything."""
    if not isinstance(size, int) or size < 0:
        raise Unknown("a size that is none")
    until = one.get("ObjectLockRetainUntilDate")
    return Entry(
        size, int(one["LastModified"].timestamp()), etag(one), str(one.get("VersionId", "")),
        None if until is None else int(until.timestamp()),
    )  # fmt: skip


def objects(where: Where) -> dict[str, Entry]:
    """Return the objects by their names, but for those with a "/" behind what these begin with."""

    def take(kind: str, name: str, one: Answer) -> tuple[str, Entry]:
        return name, entry(one, one["Size"])

    return dict(_pages(where, "list_objects_v2", ("Contents",), take, Delimiter="/"))


def versions(where: Where) -> list[Version]:
    """Return all versions, also of objects that were deleted."""

    def take(kind: str, name: str, one: Answer) -> Version:
        return Version(name, entry(one, one.get("Size", 0)), one["IsLatest"] is True, kind == "DeleteMarkers")

    return list(_pages(where, "list_object_versions", ("Versions", "DeleteMarkers"), take))


def as_of(found: Iterable[Version], time: int) -> dict[str, Entry]:
    """Return the objects that there were at the end of this second, whatever was done to them since."""
    last: dict[str, Version] = {}
    for each in found:
        if each.entry.modified <= time and "/" not in each.name:
            known = last.get(each.name)
            if known is None or _order(known) < _order(each):
                last[each.name] = each
    return {name: each.entry for name, each in last.items() if not each.deleted}


def _order(version: Version) -> tuple[int, bool, bool]:
    """Return what is larger for the later of two versions of an object; of one second, a deletion is the earlier."""
    return version.entry.modified, version.newest, not version.deleted


def uploads(where: Where) -> list[OpenUpload]:
    """Return the uploads that are open."""

    def take(kind: str, name: str, one: Answer) -> OpenUpload:
        return OpenUpload(name, str(one["UploadId"]), int(one["Initiated"].timestamp()))

    # no XML can have some characters that a name can: botocore sees to that in other lists, not in this one
    decode = urllib.parse.unquote_plus
    return list(_pages(where, "list_multipart_uploads", ("Uploads",), take, decode, EncodingType="url"))


def _pages(
    where: Where,
    operation: str,
    kinds: tuple[str, ...],
    take: Callable[[str, str, Answer], T],
    decode: Callable[[str], str] = str,
    **asked: Any,
) -> Iterator[T]:
    """Yield what `take` makes of all that a list has of these kinds."""
    prefix, count = where.before + where.begin, 0
    position: dict[str, str] = {}

    def page(answer: Answer) -> tuple[list[T], dict[str, str]]:
        if where.bucket not in (answer.get("Name"), answer.get("Bucket")):
            raise Unknown("an answer that is no list of this bucket")
        found, last = [], ""
        for kind in kinds:
            for one in answer.get(kind, []):
                last = max(last, key := decode(one["Key"]))
                if key.startswith(prefix):
                    found.append(take(kind, key[len(where.before) :], one))
        return found, _next(operation, answer, last) if answer.get("IsTruncated") else {}

    while True:
        asked |= {"Prefix": prefix, **position}
        found, more = where.client.call(operation, where.shown, then=page, **asked)
        yield from found
        count += len(found) + 1
        if not more:
            return
        if more == position or count > MOST_NAMES:
            raise StoreUnreadable(where.shown, "its list of names does not end")
        position = more


def _next(operation: str, answer: Answer, last: str) -> dict[str, str]:
    """Return where the next page begins, as it is asked for; `last`: the last key of this one; for a `then`."""
    if operation == "list_objects_v2":
        return {"ContinuationToken": str(answer["NextContinuationToken"])}
    # stores do not agree on how NextKeyMarker is encoded
    after = {"KeyMarker": last}
    for marker in ("VersionIdMarker", "UploadIdMarker"):
        if answer.get(f"Next{marker}"):
            after[marker] = str(answer[f"Next{marker}"])
    return after
