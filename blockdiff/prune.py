"""Remove the versions of a set that no rule keeps.

Nothing goes before everything that stays is proved, now or not long ago.  A version that stays and
needs one that goes is rewritten first, without the lock; the lock is held only while the new files
get their names and the others lose theirs.  So a backup never waits for more than that, and a run
that is killed anywhere leaves a set whose staying versions restore.
"""

import contextlib
import datetime
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from blockdiff.blocks.parallel import Progress, silent
from blockdiff.errors import BlockdiffError, ChainBroken, SetChanged
from blockdiff.printable import Log
from blockdiff.rewriting import draft, report
from blockdiff.rewriting.plan import identity
from blockdiff.rewriting.survey import Local, Survey, Wanted, survey
from blockdiff.sets import catalogue, drop, pruning, recover, verified, versions
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.pruning import Group

PROOF_S = 35 * 24 * 3600  # how old a proof may be


class Proved(Protocol):
    """What a verify found of one version."""

    number: int
    restores: bool
    before: bool
    proof: verified.Proof | None
    faults: list[BlockdiffError]


# verify a set: given the proofs that are good enough, and when to stop; returns what it found of each version
Prove = Callable[[Mapping[int, verified.Proof], Callable[[], bool]], Sequence[Proved]]


@dataclass
class Pruned:
    """What was done with one set, or would be; sizes in bytes."""

    name: str
    stored: int  # before
    rows: list[report.Row] = field(default_factory=list)
    stay: int = 0
    go: int = 0
    held: int = 0
    frees: int = 0  # net; estimated in a dry run, and what was freed otherwise
    reads: int = 0  # of diff files that are rewritten
    writes: int = 0
    proved: int = 0  # versions that were read and proved now
    warnings: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0, or 3 if there are warnings."""
        return 3 if self.warnings else 0

    def note(self, seen: Survey, done: pruning.Plan) -> None:
        """Note what happens to each version."""
        self.rows = report.rows(seen, done)
        self.stay, self.go = len(seen.stay), len(done.gone)
        self.held = sum(len(group.numbers) for group in done.held)


def plan(
    backup_set: BackupSet,
    wanted: Wanted,
    now: datetime.datetime,
    local: Local,
    also: Collection[int] = (),
) -> Pruned:
    """Return what a prune would do; nothing is locked or written.

    `local` brings a time into the calendar's zone; `also`: versions that stay, for other sets' sake.
    Raises BlockdiffError if the set is of no use, or its times are.
    """
    seen = survey(backup_set, wanted, now, local, also)
    out = Pruned(backup_set.name, sum(entry.stored for entry in seen.entries))
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
    known: Mapping[int, verified.Proof],
    save: Callable[[Mapping[int, verified.Proof]], object],
    now: datetime.datetime,
    local: Local,
    also: Collection[int] = (),
    over: Callable[[], bool] = lambda: False,
    threads: int = 2,
    progress: Progress = silent,
    note: Log = lambda line: None,
) -> Pruned:
    """Remove what no rule keeps and what pays.

    `prove` verifies the set; `known`: the proofs of earlier runs; `save` takes the proofs of this
    one; `over` returns whether the budget is used up.  Raises BlockdiffError; what was done before
    is complete.
    """
    work = _Prune(backup_set, wanted, threads, progress, over, save, now)
    finished: list[str] = []
    for again in (True, False):
        with backup_set.locked(wanted.wait_s):
            recover.settle(backup_set, finished.append)
        seen = survey(backup_set, wanted, now, local, also)
        if not work.out.stored:
            work.out.stored = sum(entry.stored for entry in seen.entries)
        try:
            work.run(seen, prove, known)
            break
        except SetChanged:
            if not again:
                raise
            note(f"{backup_set.name} was changed meanwhile: looking at it once more")
    work.out.warnings += finished
    return work.out


class _Prune:
    """One set, and what was done so far."""

    def __init__(
        self,
        backup_set: BackupSet,
        wanted: Wanted,
        threads: int,
        progress: Progress,
        over: Callable[[], bool],
        save: Callable[[Mapping[int, verified.Proof]], object],
        now: datetime.datetime,
    ) -> None:
        self._backup_set, self._wanted, self._threads, self._progress = backup_set, wanted, threads, progress
        self._over, self._save, self._now = over, save, now
        self._gone: set[int] = set()
        self.out = Pruned(backup_set.name, 0)

    def run(self, seen: Survey, prove: Prove, known: Mapping[int, verified.Proof]) -> None:
        """Prove what stays, and then do one group after the other."""
        self._identity = self._identify(seen.entries)
        done: list[Group] = []
        held = list(seen.plan.held)
        if seen.plan.go and self._prove(seen, prove, known):
            for group in seen.plan.go:
                if self._over():
                    self.out.warnings.append(_ENDED)
                    break
                (done if self._group(seen, group) else held).append(group)
        left = [group for group in seen.plan.go if group not in done and group not in held]
        self.out.note(seen, pruning.Plan(tuple(done), (*held, *left)))

    def _identify(self, entries: Sequence[catalogue.Entry]) -> object:
        listing = self._backup_set.listing()
        found = []
        for entry in (entry for entry in entries if entry.number not in self._gone):
            with contextlib.suppress(BlockdiffError):  # of what does not restore; it shows by its absence
                found.append(versions.version(self._backup_set, entry.number, listing, deep=False))
        return identity(self._backup_set, found)

    def _prove(self, seen: Survey, prove: Prove, known: Mapping[int, verified.Proof]) -> bool:
        """Return whether every version that stays is proved; False if the budget ended before.

        Raises the first fault of one that does not restore.
        """
        least = self._now.timestamp() - PROOF_S
        fresh = {number: proof for number, proof in known.items() if proof.at >= least}
        found = {version.number: version for version in prove(fresh, self._over)}
        for number in sorted(seen.stay):
            version = found.get(number)
            if version is not None and not version.restores and seen.restores(number):
                raise next(iter(_faults(found, seen, number)), None) or ChainBroken(
                    number, self._backup_set.name, "verify found that it does not restore"
                )
        self.out.proved += sum(1 for version in found.values() if version.restores and not version.before)
        if any(number not in found for number in seen.stay):
            self.out.warnings.append(_ENDED)
            return False
        return True

    def _group(self, seen: Survey, group: Group) -> bool:
        """Rewrite what needs the versions of a group, and remove them; returns False if that does not pay."""
        forced = self._wanted.exact or not group.pays()
        with contextlib.ExitStack() as cleanup:
            drafts = []
            for rewrite in group.rewrites:
                made = draft.draft(
                    self._backup_set, rewrite.number, rewrite.onto, threads=self._threads, progress=self._progress
                )
                cleanup.callback(made.discard)
                drafts.append(made)
            written = sum(made.stored for made in drafts)
            self.out.reads += sum(made.read for made in drafts)
            if drafts and not forced and not group.pays(written):
                return False
            with self._backup_set.locked(self._wanted.wait_s):
                if self._identify(seen.entries) != self._identity:
                    raise SetChanged(self._backup_set.name)
                for made in drafts:
                    made.swap()
                drop.drop(self._backup_set, group.numbers)
            self._gone.update(group.numbers)
        self.out.writes += written
        self.out.frees += group.removed - written
        self._identity = self._identify(seen.entries)
        self._note([rewrite.number for rewrite in group.rewrites])
        return True

    def _note(self, numbers: Sequence[int]) -> None:
        """Keep the proofs of versions that were just rewritten, and so proved."""
        listing = self._backup_set.listing()
        proofs = {}
        for number in numbers:
            with contextlib.suppress(BlockdiffError, OSError):
                version = versions.version(self._backup_set, number, listing, deep=False)
                proofs[number] = verified.of(self._backup_set, version, int(self._now.timestamp()))
        if proofs:
            self._save(proofs)


_ENDED = "the budget ended before everything was done: the next run goes on"


def _faults(found: Mapping[int, Proved], seen: Survey, number: int) -> list[BlockdiffError]:
    """Return the faults of a version and of those that it needs, its own first."""
    parents = {entry.number: entry.parent for entry in seen.entries}
    faults: list[BlockdiffError] = []
    at: int | None = number
    while at is not None:
        faults += found[at].faults if at in found else []
        at = parents.get(at)
    return faults
