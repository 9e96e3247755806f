"""Restore a version: its blocks out of the chain, newest version first, each written once.

A block is written only if it has the MD5 that the wanted version's own digest file has for
it.  So wrong bytes are never reported as right, whatever else is wrong with a set.  Damage
stops the restore if the version needs what is damaged; otherwise it is a warning.  Of a target
on another host the digests come first, and only blocks that differ are sent.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from blockdiff import printable
from blockdiff.blocks import blockset, targets
from blockdiff.blocks.checker import BlockChecker
from blockdiff.blocks.parallel import Progress, silent
from blockdiff.blocks.restorer import Restorer
from blockdiff.errors import BlockdiffError, Interrupted, NoRoom, TargetFailed
from blockdiff.formats import Buffer
from blockdiff.place import choose
from blockdiff.rewriting import inorder
from blockdiff.sets import digests, verified
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.choice import Choice, chosen
from blockdiff.sets.version import VersionFiles
from blockdiff.target import precheck
from blockdiff.target.state import DEVICE, TargetState
from blockdiff.target.writer import Target

STREAM = "standard output"
_MOST_RANGES = 100  # that a result lists


@dataclass
class Restored:
    """What a restore did, or would do."""

    name: str
    version: int
    target: str  # description of the target, for a person
    path: str  # of what was written
    blocks: int  # that the version has
    size: int | None  # bytes of the volume; None: not known before the last block was read
    files: list[tuple[int, str, int]]  # version, path, bytes; in the order of reading
    dry_run: bool = False
    read: int = 0  # bytes of diff files
    written: int = 0  # bytes
    zeros: int = 0  # bytes that are zero, written or left as holes
    right: list[tuple[int, int]] = field(default_factory=list)  # bytes of the target that are right, bounded
    right_bytes: int = 0  # of all of them
    right_more: bool = False  # more than `right` lists
    differed: int | None = None  # blocks that a target on a host did not have yet
    sent: int = 0  # bytes, to such a host
    placed: int = 0  # bytes of them that are on its disk, as far as is known
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)  # the restore is complete, but these need attention
    failure: BlockdiffError | Interrupted | None = None  # the target is not complete, or does not have its name
    whole: bool = False  # the target at `path` is the whole version
    left: str = ""  # what a failed run left and how to go on, for a person
    proof: verified.Proof | None = None  # that every block of the version's diff file was proved; None: not so

    @property
    def exit_code(self) -> int:
        """The exit code of the program."""
        if self.failure is not None:
            return self.failure.exit_code
        return 3 if self.warnings else 0


def restore(
    backup_set: BackupSet,
    number: int | None,
    goal: str | targets.Goal,
    *,
    force: bool = False,
    dry_run: bool = False,
    threads: int = 2,
    progress: Progress = silent,
) -> Restored:
    """Write version `number` (None: the newest) to a target; text is the path of a file or block device here.

    `progress`: see parallel.Progress.  `force` writes over existing data, and accepts a chain
    that is not linked or lacks versions, since every block is proved anyway.  A failure after
    the first write is in the result, with the bytes that are right.  Raises BlockdiffError for
    a failure before.
    """

    if isinstance(goal, str):
        own = None if choose.in_store(backup_set.folder) else (backup_set.folder, backup_set.base)
        goal = targets.LocalTarget(goal, own)
    with chosen(backup_set, number, force) as choice:
        files, wanted = choice.files, choice.files[-1].version
        size = wanted.size
        if size is None and not isinstance(goal, targets.LocalTarget):
            size = _find_size(backup_set, files, threads)
        least = size if size is not None else (wanted.count - 1) * wanted.block_size + 1
        seen = goal.look(files[-1], least, dry_run=dry_run)
        precheck.check(seen, least, force)
        outcome = _plan(backup_set, choice, seen.description, seen.path)
        outcome.dry_run, outcome.size = dry_run, size
        if not force:
            _check_room(files[-1], seen, goal.room())
        if dry_run:
            goal.rehearse()
            return outcome
        total = size if size is not None else wanted.count * wanted.block_size
        with goal.open(size) as sink, progress(total) as done:
            work = Restorer(backup_set.name, files, sink, done)
            _write(work, sink, outcome, force, threads)
        if work.own_whole and outcome.failure is None and not outcome.warnings:
            outcome.proof = choice.proof
        return outcome


def stream(
    backup_set: BackupSet,
    number: int | None,
    write: Callable[[Buffer], object],
    *,
    force: bool = False,
    dry_run: bool = False,
    threads: int = 2,
    progress: Progress = silent,
) -> Restored:
    """Give a version's volume to `write`, in order, its zeros too; see `restore`.

    `write` may raise OSError.  What was given before a failure is right.
    """
    with chosen(backup_set, number, force) as choice:
        outcome = _plan(backup_set, choice, STREAM, STREAM)
        outcome.dry_run = dry_run
        if dry_run:
            return outcome
        wanted = choice.files[-1].version
        total = wanted.size if wanted.size is not None else wanted.count * wanted.block_size
        with progress(total) as done:
            work = inorder.Stream(write, wanted.block_size, done)
            try:
                work.run(choice.files, threads)
                outcome.size = work.given
            except OSError as error:
                outcome.failure = TargetFailed(STREAM, error.strerror or error)
            except (BlockdiffError, Interrupted) as error:
                outcome.failure = error
        outcome.read, outcome.written, outcome.zeros = work.read, work.given - work.zeros, work.zeros
        if outcome.failure is not None and work.given:
            outcome.right, outcome.right_bytes = [(0, work.given)], work.given
        return outcome


def _plan(backup_set: BackupSet, choice: Choice, target: str, path: str) -> Restored:
    """Return what is to be done."""
    wanted = choice.files[-1].version
    rows = zip(reversed(choice.files), reversed(choice.sizes), strict=True)
    outcome = Restored(
        name=backup_set.name,
        version=wanted.number,
        target=target,
        path=path,
        blocks=wanted.count,
        size=wanted.size,
        files=[(each.version.number, each.diff, size) for each, size in rows],
        warnings=list(choice.warnings),
    )
    outcome.notes += [note for each in choice.files for note in each.version.notes]
    return outcome


class _Nowhere:
    """A sink that takes blocks and forgets them."""

    def write(self, offset: int, parts: list[memoryview]) -> None:
        """Forget them."""

    def zero(self, offset: int, length: int) -> None:
        """Forget them."""

    def stop(self) -> None:
        """Do nothing."""


def _find_size(backup_set: BackupSet, files: list[VersionFiles], threads: int) -> int:
    """Return the size of a volume, in bytes, of which only the last block's record shows it."""
    count = files[-1].version.count
    work = Restorer(backup_set.name, files, _Nowhere())
    last = blockset.Blocks(count)
    last.add(count - 1, count)
    work.only(last)
    work.run(threads)
    return work.size()


def _check_room(files: VersionFiles, seen: TargetState, room: int | None) -> None:
    """Raise NoRoom if there is no space for the version's blocks; zeros take none in a new file."""
    wanted = files.version
    if room is None or room >= wanted.count * wanted.block_size:
        return
    with digests.Digests(files.digests, wanted.count, files.open) as known:
        blocks = BlockChecker(known, wanted.block_size).count_not_zero()
    least = max(0, blocks - 1) * wanted.block_size  # the last one may be short
    if room < least:
        hint = "nothing was written; free space there or choose another folder; --force tries it anyway"
        takes = f"it takes {printable.size(least)} or more, and {printable.size(room)} are free"
        raise NoRoom(f"{seen.path}: {takes}", hint=hint)


def _write(work: Restorer, sink: Target | targets.Remote, outcome: Restored, force: bool, threads: int) -> None:
    """Write and finish; a failure is put into the outcome."""
    outcome.path = sink.written_path
    try:
        if not isinstance(sink, Target):
            wanted = targets.differing(sink.told(), outcome.blocks)
            outcome.differed = len(wanted)
            work.only(wanted)
        work.run(threads, go_on=force)
        if outcome.size is None:
            outcome.size = work.size()
        sink.finish(outcome.size)
        outcome.path = sink.path
        rest = sink.size_before - outcome.size
        if sink.kind == DEVICE and rest > 0:
            outcome.notes.append(f"{sink.path} is larger: its last {rest} bytes are left as they were")
    except (BlockdiffError, Interrupted) as error:
        outcome.failure = error
        outcome.whole, outcome.left = sink.durable, sink.left()
        if isinstance(sink, Target):
            _note_right(work, sink, outcome, durable=not isinstance(error, Interrupted))
    if not isinstance(sink, Target):
        outcome.sent, outcome.placed = sink.sent, sink.placed
    outcome.read, outcome.written, outcome.zeros = work.read, work.written, work.zeros
    outcome.warnings += work.warnings


def _note_right(work: Restorer, sink: Target, outcome: Restored, durable: bool) -> None:
    """Note which bytes of the target are right; `durable`: only after a flush to the disk."""
    try:
        if durable:
            sink.sync()
    except BlockdiffError as error:
        outcome.warnings.append(str(error))
        return
    for start, end in work.right():
        outcome.right_bytes += end - start
        if len(outcome.right) < _MOST_RANGES:
            outcome.right.append((start, end))
        else:
            outcome.right_more = True
