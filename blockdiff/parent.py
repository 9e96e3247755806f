"""What a new version continues: the set's state brought in order, and the parent proved.

Everything that can refuse does so before a byte is written.  A parent that fails is never
built upon.  Format: blockdiff-formats(5), "Publishing".
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from blockdiff import chain, trust
from blockdiff.errors import (
    BlockSizeDiffers,
    ChainBroken,
    ForeignFiles,
    NotOurFormat,
    StoreFailed,
    TornFile,
)
from blockdiff.store import Store, Version

Log = Callable[[str], None]


@dataclass(frozen=True)
class Parent:
    """What the next version continues."""

    number: int  # of the next version
    version: Version | None  # None: the next version is a full
    block_size: int | None  # bytes: the set's, where it is known


def settle(store: Store, warn: Log) -> int:
    """Bring a locked set into the state its last run meant, and return its newest version.

    A version above NAME.ver that is whole and ours is adopted, the rest of a run that died is
    cleared away.  Raises ForeignFiles before anything is touched that somebody could need.
    """
    listing = store.listing()
    if not listing.has_ver and set(listing.versions) == {1}:
        if trust.is_whole(store, 1, listing):
            store.publish_ver(1)
            warn(f"version 1 of {store.name} was complete but not yet published: adopted")
        else:
            store.drop_torn_first(listing)
        listing = store.listing()
    newest = store.newest(listing)
    above = listing.above(newest)
    if above and above[-1] > newest + 1:
        raise ForeignFiles(
            f"{store.name} has version {above[-1]}, but {chain.ver_name(store.base)} says {newest}",
            hint="put the number of the newest good version into it, or move the files above it away",
        )
    if above and trust.is_whole(store, newest + 1, listing):
        newest += 1
        store.publish_ver(newest)
        warn(f"version {newest} of {store.name} was complete but not yet published: adopted")
    elif above:
        store.drop_torn(newest + 1, listing)
    store.sweep_parts()  # after that: a temporary manifest tells what is ours
    return newest


def find(
    store: Store, newest: int, warn: Log, *, full: bool = False, auto_full: bool = True, block_size: int | None = None
) -> Parent:
    """Return what the next version continues; a parent that cannot be proved makes it a full.

    `block_size` (bytes) is what was explicitly asked for.  Raises BlockSizeDiffers, or why there
    is no good parent if `auto_full` is off.
    """
    number = newest + 1
    if newest == 0:
        return Parent(number, None, None)
    listing = store.listing()
    found: int | None = None
    try:
        parent = trust.version(store, newest, listing)
        found = parent.block_size
        if full:
            return Parent(number, None, found)
        trust.chain_of(store, newest, listing, deep=False)
        trust.check_link(store, parent)
        suffix = parent.suffix
        if parent.manifest is not None and store.size(newest, suffix) != parent.manifest.files[suffix].size:
            raise TornFile(store.path(newest, suffix), "it is not of the size that its manifest says")
    except (TornFile, NotOurFormat, ChainBroken, StoreFailed) as error:
        if full:
            return Parent(number, None, found)
        if not auto_full:
            raise
        warn(f"version {newest} cannot be built upon, making a full: {error}")
        return Parent(number, None, found)
    for note in parent.notes:
        warn(note)
    if block_size not in (None, found):
        raise BlockSizeDiffers(store.name, found, block_size)
    return Parent(number, parent, found)


def describe_link(store: Store, parent: Version | None) -> dict[str, Any]:
    """Return the manifest's keys that say what a version continues."""
    if parent is None:
        return {"kind": "full", "parent": None, "parent_md5_sha256": None}
    link = store.hash(parent.number, ".md5").sha256
    return {"kind": "incremental", "parent": parent.number, "parent_md5_sha256": link}
