"""Remove the versions of a set that no rule keeps.

Nothing goes before everything that stays is proved, now or not long ago.  A version that stays and
needs one that goes is rewritten first, without the lock; the lock is held only while the new files
get their names and the others lose theirs.  So a backup never waits for more than that, and a run
that is killed anywhere leaves a set whose staying versions restore.
"""

import contextlib
import datetime
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from blockdiff.blocks.parallel import Progress, silent
from blockdiff.errors import BlockdiffError, NoSuchSet, SetChanged
from blockdiff.printable import Log
from blockdiff.rewriting import draft, proving, report
from blockdiff.rewriting.plan import identity
from blockdiff.rewriting.proving import Prove
from blockdiff.rewriting.survey import Local, Survey, Wanted, survey
from blockdiff.sets import drop, pruning, unfinished, verified, versions
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.pruning import Group

PROOF_S = 35 * 24 * 3600  # how old a proof may be
_AHEAD_S = 3600  # how far one may be ahead of the clock
_ENDED = "the budget ended before everything was done: the next run goes on"


@dataclass
class Pruned:
    """What was done with one set, or would be; sizes in bytes."""

    name: str
    stored: int = 0  # before
    rows: list[report.Row] = field(default_factory=list)
    stay: int = 0
    go: int = 0
    held: int = 0
    frees: int = 0  # net; estimated in a dry run, and what was freed otherwise
    reads: int = 0  # of diff files that are rewritten
    writes: int = 0
    read: int = 0  # all, also to prove
    proved: int = 0  # versions that were read and proved now
    warnings: list[str] = field(default_factory=list)
    failure: BlockdiffError | None = None  # what ended it; the rest of this is what was done before

    @property
    def exit_code(self) -> int:
        """That of the failure; else 0, or 3 if there are warnings."""
        return self.failure.exit_code if self.failure is not None else 3 if self.warnings else 0

    def note(self, seen: Survey, done: pruning.Plan, left: Collection[Group] = ()) -> None:
        """Note what happens to each version; `left`: what was not done although it pays."""
        self.rows = report.rows(seen, done, left)
        self.stay, self.go = len(seen.stay), len(done.gone)
        self.held = sum(len(group.numbers) for group in (*done.held, *left))


def plan(
    backup_set: BackupSet,
    wanted: Wanted,
    now: datetime.datetime,
    local: Local,
    also: Collection[int] = (),
    damage: Mapping[int, verified.Damage] = {},
) -> Pruned:
    """Return what a prune would do; nothing is locked or written.

    `also`: versions that stay, for other sets' sake; `damage`: of versions, as a verify found it.
    Raises BlockdiffError if the set is of no use, or its times are.
    """
    seen = survey(backup_set, wanted, now, local, also, damage)
    out = Pruned(backup_set.name, seen.stored)
    out.frees = sum(group.frees for group in seen.plan.go)
    out.writes = sum(group.writes for group in seen.plan.go)
    sizes = {entry.number: entry.diff for entry in seen.entries}
    out.reads = sum(sizes[n] for group in seen.plan.go for rewrite in group.rewrites for n in rewrite.path)
    out.note(seen, seen.plan)
    return out


def prune(
    backup_set: BackupSet,
    wanted: Wanted,
    prove: Prove,
    *,
    noted: verified.Notes,
    save: Callable[[Mapping[int, verified.Proof]], object],
    now: datetime.datetime,
    local: Local,
    also: Collection[int] = (),
    over: Callable[[int], bool] = lambda read: False,
    threads: int = 2,
    progress: Progress = silent,
    note: Log = lambda line: None,
) -> Pruned:
    """Remove what no rule keeps and what pays.

    `prove` verifies versions; `noted`: what earlier runs found; `save` takes new proofs; `over` returns
    whether the budget is used up, given the bytes that were read.
    Raises BlockdiffError if nothing was done; otherwise that is the result's failure.
    """
    listing = backup_set.listing()
    if not listing.versions and not listing.has_ver:
        raise NoSuchSet(backup_set.name)  # before there is a lock of it
    work = _Prune(backup_set, wanted, noted.proofs, now, threads, progress, over, save)
    for again in (True, False):
        with backup_set.locked(wanted.wait_s):
            unfinished.settle(backup_set, work.out.warnings.append)
            seen = survey(backup_set, wanted, now, local, also, noted.damage)
            work.begin(seen)
        try:
            work.prove(seen, prove)
            work.run(seen)
            break
        except BlockdiffError as error:
            failure = error
            # what another run removed meanwhile is first seen as a file that is not there
            with contextlib.suppress(BlockdiffError):
                if work.is_changed(seen):
                    failure = SetChanged(backup_set.name)
            if not isinstance(failure, SetChanged) or not again or work.began:
                work.fail(seen, failure)
                break
            note(f"{backup_set.name} was changed meanwhile: looking at it once more")
    if work.began and backup_set.place.keeps_removed():
        note(f"{backup_set.folder} keeps what was removed until a lifecycle rule of the bucket removes it for good")
    return work.out


class _Prune:
    """One set, and what was done so far."""

    def __init__(
        self,
        backup_set: BackupSet,
        wanted: Wanted,
        known: Mapping[int, verified.Proof],
        now: datetime.datetime,
        threads: int,
        progress: Progress,
        over: Callable[[int], bool],
        save: Callable[[Mapping[int, verified.Proof]], object],
    ) -> None:
        self._backup_set, self._wanted, self._known, self._now = backup_set, wanted, dict(known), now
        self._threads, self._progress, self._over, self._save = threads, progress, over, save
        self._whole = False  # everything that stays is proved
        self._read = 0  # bytes, also to prove
        self._identity: object = None
        self._done: list[Group] = []
        self._held: list[Group] = []
        self.out = Pruned(backup_set.name)

    def begin(self, seen: Survey) -> None:
        """Note what the set is now; it is locked."""
        self.out.stored = seen.stored
        self._identity = self._identify(seen)

    @property
    def began(self) -> bool:
        """Whether anything was removed."""
        return bool(self._done)

    def is_changed(self, seen: Survey) -> bool:
        """Return whether another run changed the set since this one looked at it.  Raises StoreUnreadable."""
        return self._identify(seen) != self._identity

    def _identify(self, seen: Survey) -> object:
        """Return what identifies the files of the versions that were seen, and what a person keeps of them."""
        listing = self._backup_set.listing()
        gone = {number for group in self._done for number in group.numbers}
        found = []
        for number in sorted({entry.number for entry in seen.entries} - gone):
            with contextlib.suppress(BlockdiffError):  # what does not restore shows by its absence
                found.append(versions.version(self._backup_set, number, listing, deep=False))
        return identity(self._backup_set, found), listing.pinned

    def prove(self, seen: Survey, prove: Prove) -> None:
        """Prove every version that stays, if any is to go.  Raises the first fault of one that does not restore."""
        if not seen.plan.go:
            return
        now = self._now.timestamp()
        fresh = {n: proof for n, proof in self._known.items() if now - PROOF_S <= proof.at <= now + _AHEAD_S}
        good = {entry.number for entry in seen.entries if entry.restores}
        stay = [number for number in sorted(seen.stay) if number in good]
        result = prove(stay, fresh, self._stop)
        found = {version.number: version for version in result.versions}
        new = {n: proof for n, proof in result.proofs.items() if not found[n].before}
        self._known |= new
        self._save(new)
        self._read += result.read
        self.out.proved += sum(version.restores and not version.before for version in found.values())
        for number in stay:
            if number in found and not found[number].restores:
                raise proving.fault(self._backup_set, found, seen, number)
        self._whole = all(number in found for number in stay)

    def _stop(self, read: int) -> bool:
        return self._over(self._read + read)

    def run(self, seen: Survey) -> None:
        """Do one group after the other."""
        self._held = list(seen.plan.held)
        for group in seen.plan.go:
            if not self._whole or self._over(self._read):
                self.out.warnings.append(_ENDED)
                break
            self._group(seen, group)
        self._tell(seen)

    def fail(self, seen: Survey, error: BlockdiffError) -> None:
        """End with an error; raises it if nothing was done."""
        if not self.began:
            raise error
        self.out.failure = error
        self._tell(seen)

    def _tell(self, seen: Survey) -> None:
        settled = {group.numbers for group in (*self._done, *self._held)}
        left = [group for group in seen.plan.go if group.numbers not in settled]
        self.out.read = self._read
        self.out.note(seen, pruning.Plan(tuple(self._done), tuple(self._held)), left)

    def _group(self, seen: Survey, group: Group) -> None:
        """Rewrite what needs the versions of a group, and remove them, unless it turns out that this does not pay."""
        forced = self._wanted.exact or not group.pays()
        with contextlib.ExitStack() as cleanup:
            drafts = []
            for rewrite in group.rewrites:
                made = draft.draft(
                    self._backup_set, rewrite.number, rewrite.onto,
                    threads=self._threads, signing=self._wanted.signing, progress=self._progress,
                )  # fmt: skip
                cleanup.callback(made.discard)
                drafts.append(made)
                self.out.reads += made.read
                self._read += made.read + made.stored
            written = sum(made.stored for made in drafts)
            if drafts and not forced and not group.pays(written):
                pairs = zip(group.rewrites, drafts, strict=True)
                real = tuple(replace(rewrite, writes=made.stored) for rewrite, made in pairs)
                self._held.append(replace(group, rewrites=real))
                return
            with self._backup_set.locked(self._wanted.wait_s):
                if self.is_changed(seen):
                    raise SetChanged(self._backup_set.name)
                for made in drafts:
                    made.swap()
                drop.drop(self._backup_set, group.numbers)
                self._done.append(group)
                self._identity = self._identify(seen)  # while no other run can change anything
        self.out.writes += written
        self.out.frees += group.removed - written
        self._note([rewrite.number for rewrite in group.rewrites])

    def _note(self, numbers: Sequence[int]) -> None:
        """Keep the proofs of versions that were just rewritten, and so proved."""
        listing = self._backup_set.listing()
        new = {}
        for number in numbers:
            with contextlib.suppress(BlockdiffError, OSError):
                version = versions.version(self._backup_set, number, listing, deep=False)
                new[number] = verified.of(self._backup_set, version, int(self._now.timestamp()))
        self._known |= new
        self._save(new)
