"""Back up a volume: write the next version of a set.

Everything that can refuse does so before a byte is written: the lock, NAME.ver, what
stands above it, the parent.  A parent that fails is never built upon.
"""

import contextlib
import dataclasses
import datetime
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from blockdiff import __version__, chain, codecs, intake, manifest, push, trust
from blockdiff.draft import Draft
from blockdiff.errors import (
    BlockSizeDiffers,
    ChainBroken,
    ForeignFiles,
    NotOurFormat,
    StoreFailed,
    TornFile,
)
from blockdiff.olddigests import OldDigests
from blockdiff.session import Session
from blockdiff.store import Store, Version
from blockdiff.transport.base import Transport

DEFAULT_BLOCK_SIZE = 64 * 1024  # bytes
DEFAULT_TIMEOUT_S = 120.0

Log = Callable[[str], None]
Progress = Callable[[int, int], None]  # (bytes of the volume done, bytes of the volume)


@dataclass(frozen=True)
class Wanted:
    """What a user asked for."""

    path: str  # of the volume, on its host
    suffix: str = ".gz"  # of the diff file
    block_size: int | None = None  # bytes, an explicit option; must be the set's
    default_block_size: int = DEFAULT_BLOCK_SIZE  # bytes, for a set that has none yet
    full: bool = False
    auto_full: bool = True  # make a full where the parent cannot be built upon
    rescan: bool = False  # compute every MD5, whatever XXH3-128 says
    pack_wire: bool = False  # compress what goes over the wire
    jobs: int = 0  # threads on each side; 0: by the cores
    bwlimit: int = 0  # bytes per second; 0: none
    timeout_s: float = DEFAULT_TIMEOUT_S  # silence of the other side


@dataclass
class Outcome:
    """What a backup run did."""

    name: str
    version: int
    kind: str  # "full" or "incremental"
    size: int | None  # bytes of the volume
    blocks: int
    changed: int
    zero: int
    read: int | None  # bytes
    wire: int | None  # bytes
    payload: int  # bytes
    stored: int  # bytes
    seconds: float
    warnings: list[str] = field(default_factory=list)  # complete, but a person must look

    @property
    def exit_code(self) -> int:
        """0, or 3 if there are warnings."""
        return 3 if self.warnings else 0

    def as_json(self) -> dict[str, Any]:
        """Return it for --json."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Parent:
    """What the next version continues."""

    number: int  # of the next version
    version: Version | None  # None: the next version is a full
    block_size: int | None  # bytes: the set's, where it is known


def now() -> datetime.datetime:
    """Return the time in UTC."""
    return datetime.datetime.now(datetime.UTC)


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
    store.sweep_parts()
    return newest


def find_parent(store: Store, newest: int, wanted: Wanted, warn: Log) -> Parent:
    """Return what the next version continues; a parent that cannot be proved makes it a full.

    Raises BlockSizeDiffers, or why there is no good parent if wanted.auto_full is off.
    """
    number = newest + 1
    if newest == 0:
        return Parent(number, None, None)
    listing = store.listing()
    block_size: int | None = None
    try:
        parent = trust.version(store, newest, listing)
        block_size = parent.block_size
        if wanted.full:
            return Parent(number, None, block_size)
        trust.chain_of(store, newest, listing, deep=False)
        trust.check_link(store, parent)
        if parent.manifest is not None and store.size(newest, parent.suffix) != parent.manifest.files[parent.suffix].size:
            raise TornFile(store.path(newest, parent.suffix), "it is not of the size that its manifest says")
    except (TornFile, NotOurFormat, ChainBroken, StoreFailed) as error:
        if wanted.full:
            return Parent(number, None, block_size)
        if not wanted.auto_full:
            raise
        warn(f"version {newest} cannot be built upon, making a full: {error}")
        return Parent(number, None, block_size)
    for note in parent.notes:
        warn(note)
    if wanted.block_size not in (None, block_size):
        raise BlockSizeDiffers(store.name, block_size, wanted.block_size)
    return Parent(number, parent, block_size)


def describe_link(store: Store, parent: Version | None) -> dict[str, Any]:
    """Return the manifest's keys that say what a version continues."""
    if parent is None:
        return {"kind": "full", "parent": None, "parent_md5_sha256": None}
    link = store.hash(parent.number, ".md5").sha256
    return {"kind": "incremental", "parent": parent.number, "parent_md5_sha256": link}


def run(
    store: Store,
    wanted: Wanted,
    connect: Callable[[], Transport],
    *,
    cores: int,
    warn: Log = lambda line: None,
    progress: Progress = lambda done, size: None,
) -> Outcome:
    """Write the next version of a set, and return what was done.

    `connect` starts the agent's command where the volume is; `cores`: threads that this side
    may use.  Raises the error that stopped it; then nothing was published.
    """
    with store.locked():
        warnings: list[str] = []

        def caution(line: str) -> None:
            warnings.append(line)
            warn(line)

        newest = settle(store, warn)
        parent = find_parent(store, newest, wanted, caution)
        begun = now()
        with Session(connect(), wanted.timeout_s) as session:
            outcome = _scan(store, parent, wanted, session, begun, cores, progress)
            status = session.finish()
            if status != 0:
                caution(f"the agent on {session.host} had said everything, but ended with {status}")
        outcome.warnings = warnings
        return outcome


def _scan(
    store: Store,
    parent: Parent,
    wanted: Wanted,
    session: Session,
    begun: datetime.datetime,
    cores: int,
    progress: Progress,
) -> Outcome:
    block_size = wanted.block_size or parent.block_size or wanted.default_block_size
    codec = codecs.BY_SUFFIX[wanted.suffix]
    with contextlib.ExitStack() as held:
        terms, old_md5, old_xxh = _terms(store, parent.version, wanted, session, block_size, held)
        told = old_md5 if terms["told"] == "md5" else old_xxh
        size, kind = session.open(
            {
                "path": wanted.path.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape"),
                "block_size": block_size,
                "digest": terms["told"],
                "others": terms["others"],
                "old": told.count if told is not None else None,
                "compress": wanted.pack_wire,
                "jobs": wanted.jobs,
                "bwlimit": wanted.bwlimit,
                "timeout_s": wanted.timeout_s,
            },
            told,
        )
        agreed = intake.Terms(size=size, block_size=block_size, **terms)
        draft = Draft(store, parent.number, codec, block_size, agreed.keep_xxh)
        held.callback(draft.discard)
        done = 0

        def step(length: int) -> None:
            nonlocal done
            done += length
            progress(done, size)

        work = intake.Intake(session, draft, codec, agreed, old_md5, old_xxh, step)
        totals = work.run(max(1, wanted.jobs or cores))
        ended = now()
        value: dict[str, Any] = {
            "format": manifest.FORMAT,
            "blockdiff": __version__,
            "set": store.base,
            "version": parent.number,
            **describe_link(store, parent.version),
            "begun": stamp(begun),
            "ended": stamp(ended),
            "source": {
                "host": session.host,
                "path": wanted.path,
                "kind": kind,
                "size": size,
                "lv_uuid": None,
            },
            "block_size": block_size,
            "blocks": {"total": totals.blocks, "changed": totals.changed, "zero": totals.zero},
            "bytes": {"read": totals.read, "payload": totals.payload, "wire": session.wire},
            "quiesce": None,
            "snapshot": None,
            "consistency": "none",
            "agent": {
                "python": session.hello.python,
                "digest": agreed.told,
                "codec": session.hello.codec if wanted.pack_wire else "none",
                "sha256": push.bundle_sha256(),
            },
        }
        draft.publish(value, totals.payload)
        return Outcome(
            store.name,
            parent.number,
            value["kind"],
            size,
            totals.blocks,
            totals.changed,
            totals.zero,
            totals.read,
            session.wire,
            totals.payload,
            draft.stored,
            (now() - begun).total_seconds(),
        )


def stamp(moment: datetime.datetime) -> str:
    """Return a time as manifests have it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _terms(
    store: Store,
    parent: Version | None,
    wanted: Wanted,
    session: Session,
    block_size: int,
    held: contextlib.ExitStack,
) -> tuple[dict[str, Any], OldDigests | None, OldDigests | None]:
    """Decide which digests the agent compares and tells; returns that, and the parent's digest files.

    XXH3-128 is many times as fast as MD5 and decides where both sides have it: then only
    blocks that changed get an MD5, here.  Otherwise MD5 decides.
    """
    fast = session.hello.digest == "xxh128"
    if parent is None:
        return {"told": session.hello.digest, "others": False, "keep_xxh": True}, None, None
    old_md5 = held.enter_context(
        contextlib.closing(OldDigests(store.path(parent.number, ".md5"), parent.count))
    )
    old_xxh = None
    if trust.counts(store, parent, ".xxh128"):
        old_xxh = held.enter_context(
            contextlib.closing(OldDigests(store.path(parent.number, ".xxh128"), parent.count))
        )
    if fast and old_xxh is not None and not wanted.rescan:
        return {"told": "xxh128", "others": False, "keep_xxh": True}, old_md5, old_xxh
    if fast:  # the XXH3-128 of every block comes along, so that the next run can be fast
        return {"told": "md5", "others": True, "keep_xxh": True}, old_md5, None
    return {"told": "md5", "others": False, "keep_xxh": old_xxh is not None}, old_md5, old_xxh

