"""Back up volumes: write the next version of each set.

The order is what matters.  First everything that can refuse, and nothing is written: the
set's lock, its state, the parent, the agent's hello, the room for a snapshot.  Then the
snapshots of all sources at one moment.  Then each is read, and published only when its
agent's END agrees with what arrived.
"""

import contextlib
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from blockdiff import __version__, codecs
from blockdiff.errors import BlockdiffError, DamagedFile, StoreUnreadable
from blockdiff.formats import manifest
from blockdiff.ingest import members
from blockdiff.ingest.job import Job
from blockdiff.sets import identity, parent, recover
from blockdiff.sets.digests import Digests
from blockdiff.sets.newversion import NewVersion, now, stamp
from blockdiff.sets.outcome import Outcome
from blockdiff.sets.parent import Log
from blockdiff.sets.version import Version
from blockdiff.source import leftovers, push, snapshots
from blockdiff.source.prepared import Prepared
from blockdiff.source.session import Opened, Session
from blockdiff.source.wanted import AUTO, NONE, request

if TYPE_CHECKING:
    from blockdiff.ingest import receiver


def run(job: Job, **options: Any) -> Outcome:
    """Write the next version of one set, and return what was done; see `run_all`.

    Raises the error that stopped it; then nothing was published.
    """
    (result,) = run_all([job], **options)
    if isinstance(result, BlockdiffError):
        raise result
    return result


def run_all(
    jobs: Sequence[Job],
    *,
    cores: int,
    quiet: snapshots.Quiesce | None = None,
    warn: Log = lambda line: None,
    note: Log = lambda line: None,
) -> list[Outcome | BlockdiffError]:
    """Write the next version of each job's set, from snapshots made at one moment.

    Whatever fails before all snapshots stand stops all jobs and is raised; after that each
    stands for itself, and its error is its result.  `cores`: threads that this side may use;
    `quiet` makes the lock around the snapshots; `note` takes lines for the log.
    """
    with contextlib.ExitStack() as held:
        runs = [held.enter_context(_Run(job, warn, note)) for job in jobs]
        facts = snapshots.snapshots(
            [run.session for run in runs if run.waits], [run.session for run in runs if not run.waits], quiet
        )
        if facts is not None:
            note(f"the lock was held for {facts['held_s']} s")
        for each in runs:
            each.see()
        results: list[Outcome | BlockdiffError] = []
        for each in runs:
            try:
                results.append(each.scan(facts, cores))
            except BlockdiffError as error:
                each.failed(error)
                error.concern(each.label)
                results.append(error)
        return results


class _Run:
    """One job under way: its set locked, its agent asked."""

    def __init__(self, job: Job, warn: Log, note: Log) -> None:
        self._job, self._store, self._wanted = job, job.store, job.wanted
        before = f"{job.label}: " if job.label else ""
        self._warn: Log = lambda line: warn(before + line)
        self._note = note
        self._warnings: list[str] = []
        self._held = contextlib.ExitStack()
        self.label = job.label
        self._run_id = uuid.uuid4().hex
        self.waits = False  # for the moment of its snapshot
        self.session: Session
        self._opened: Opened

    def __enter__(self) -> "_Run":
        try:
            self._begin()
        except BaseException as error:
            self._held.close()
            self.failed(error)
            if isinstance(error, BlockdiffError):
                error.concern(self.label)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._held.close()
        if error is not None:
            self.failed(error)

    def _caution(self, line: str) -> None:
        self._warnings.append(line)
        self._warn(line)

    def _hear(self, line: str) -> None:
        """Take a line of the agent's; what its sweep could not settle is for a person."""
        if leftovers.concerns(line):
            self._caution(line)
        else:
            self._note(line)

    def _begin(self) -> None:
        wanted = self._wanted
        self._held.enter_context(self._store.locked())
        newest = recover.settle(self._store, self._note)
        self._parent = parent.find(
            self._store,
            newest,
            self._caution,
            self._note,
            full=wanted.full,
            auto_full=wanted.auto_full,
            block_size=wanted.block_size,
        )
        self._held.callback(self._parent.close)
        self._block_size = wanted.block_size or self._parent.block_size or wanted.default_block_size
        self._source = identity.Check(self._store, newest, self._job.host, wanted.path, wanted.new_source)
        self._source.before_connecting(uuid_comes=wanted.snapshot != NONE)
        if self._source.unknown:
            self._note(f"{self._store.name} did not name its source until now: it is of {self._source.spelt}")
        self._begun = now()
        self.session = wanted.session(self._job.connect(), self._hear, self._note)
        self.session.about = self.label
        self._held.enter_context(self.session)
        self._terms, self._old_md5, self._old_xxh = self._agree(self._parent.version)
        self._told = self._old_md5 if self._terms["told"] == "md5" else self._old_xxh
        self.waits = self.session.ask(self._request())
        if self.session.prepared is not None:  # before anything is locked or made
            self._check(self.session.prepared)
        else:
            self._take_opened()

    def _check(self, source: Prepared | Opened) -> None:
        """Refuse another source than the set's, and one that has no room."""
        self._source.see(source.size, source.lv_uuid, source.same)
        codec, before = codecs.BY_SUFFIX[self._wanted.suffix], self._parent.version
        least = members.least_stored(
            source.size,
            self._block_size,
            codec,
            known=before.count if before is not None else 0,
            keep_xxh=self._terms["keep_xxh"],
        )
        self._source.see_room(source.size, least)

    def _request(self) -> dict[str, Any]:
        return request(
            self._wanted,
            self._store,
            self._run_id,
            block_size=self._block_size,
            known=self._source.known,
            digest=self._terms["told"],
            others=self._terms["others"],
            old=self._told.count if self._told is not None else None,
            shared=self.session.offer,
        )

    def _agree(self, before: Version | None) -> tuple[dict[str, Any], Digests | None, Digests | None]:
        """Decide which digests the agent compares and tells; returns that, and the parent's digest files.

        XXH3-128 is many times as fast as MD5 and decides where both sides have it: then only
        blocks that changed get an MD5, here.  Otherwise MD5 decides.
        """
        kind = self.session.hello.digest
        if before is None:
            return {"told": kind, "others": False, "keep_xxh": True}, None, None
        old_md5, old_xxh = self._parent.md5, self._old_xxh128(before)
        if kind == "md5":
            return {"told": "md5", "others": False, "keep_xxh": old_xxh is not None}, old_md5, old_xxh
        if old_xxh is not None and not self._wanted.rescan:
            return {"told": "xxh128", "others": False, "keep_xxh": True}, old_md5, old_xxh
        # the XXH3-128 of every block comes along, so that the next run can be fast
        return {"told": "md5", "others": True, "keep_xxh": True}, old_md5, None

    def _old_xxh128(self, before: Version) -> Digests | None:
        """Return the parent's XXH3-128 digests, if they are those that its manifest vouches for."""
        if before.manifest is None or ".xxh128" not in before.manifest.files:
            return None
        try:
            old = Digests(self._store.path(before.number, ".xxh128"), before.count)
            self._held.callback(old.close)
            return old if old.seal() == before.manifest.files[".xxh128"].sha256 else None
        except (DamagedFile, StoreUnreadable):
            return None

    def see(self) -> None:
        """Take note of the snapshot that now stands open."""
        if self.waits:
            self._take_opened()

    def _take_opened(self) -> None:
        self._opened = opened = self.session.opened(self._block_size)
        self._check(opened)
        if opened.users is not None:
            # the original's commands read it so as well, and say nothing
            (self._caution if self._wanted.snapshot == AUTO else self._note)(self._source.in_use(opened.users))

    def scan(self, facts: dict[str, Any] | None, cores: int) -> Outcome:
        """Take what the agent reads, and publish it."""
        if self._told is not None:
            self.session.feed(self._told)
        from blockdiff.ingest import receiver  # loaded while the agent reads

        wanted, opened = self._wanted, self._opened
        before = self._parent.version
        old_size = before.manifest.size if before is not None and before.manifest is not None else None
        terms = receiver.Terms(size=opened.size, block_size=self._block_size, old_size=old_size, **self._terms)
        codec = codecs.BY_SUFFIX[wanted.suffix]
        draft = NewVersion(self._store, self._parent.number, codec, self._block_size, terms.keep_xxh)
        self._held.callback(draft.discard)
        work = receiver.Receiver(
            self.session,
            draft,
            codec,
            terms,
            self._old_md5,
            self._old_xxh,
            lambda length: self._job.progress(length, opened.size),
        )
        totals = work.run(max(1, wanted.jobs or cores))
        value = self._manifest(totals, facts)
        draft.publish(value, totals.payload, lambda: self._parent.check(self._store))
        for line in self.session.finish():
            self._caution(line)
        return Outcome(
            name=self._store.name,
            version=self._parent.number,
            kind=value.kind,
            size=opened.size,
            blocks=totals.blocks,
            changed=totals.changed,
            zero=totals.zero,
            read=totals.read,
            wire=value.bytes.wire,
            payload=totals.payload,
            stored=draft.stored,
            seconds=(now() - self._begun).total_seconds(),
            consistency=value.consistency,
            warnings=self._warnings,
        )

    def _manifest(self, totals: "receiver.Totals", facts: dict[str, Any] | None) -> manifest.NewManifest:
        """Return what the manifest tells of this run."""
        opened, session = self._opened, self.session
        consistency, snapshot = "none", None
        if opened.snapshot is not None:
            consistency = "application" if facts is not None and opened.holds else "crash"
            end = totals.snapshot or {"fill": None, "size": None, "extended": None}
            snapshot = manifest.Snapshot(
                name=opened.snapshot["name"],
                size=end["size"],
                fill_at_begin=opened.snapshot["fill"],
                fill_at_end=end["fill"],
                extended=end["extended"],
            )
        return manifest.NewManifest(
            blockdiff=__version__,
            set=self._store.base,
            version=self._parent.number,
            parent=self._parent.parent_number,
            parent_md5_sha256=self._parent.link,
            begun=stamp(self._begun),
            ended=stamp(now()),
            source=manifest.Source(session.host, self._wanted.path, opened.kind, opened.size, opened.lv_uuid),
            block_size=self._block_size,
            blocks=manifest.Blocks(totals.blocks, totals.changed, totals.zero),
            bytes=manifest.Transfer(totals.read, totals.payload, session.wire),
            quiesce=facts,
            snapshot=snapshot,
            consistency=consistency,
            agent=manifest.Agent(
                python=session.hello.python,
                digest=self._terms["told"],
                codec=session.hello.codec if self._wanted.pack_wire else "none",
                sha256=push.bundle_sha256(self._wanted.snapshot != NONE),
            ),
        )

    def failed(self, error: BaseException) -> None:
        """After a lost connection look once whether a snapshot of this run is still there, and remove it."""
        if not self.waits or not isinstance(error, leftovers.LOST):
            return
        self.waits = False
        self.session.close()
        leftovers.clear(self._job.connect, self._request(), self._run_id, self._wanted.timeout_s, self._note)
