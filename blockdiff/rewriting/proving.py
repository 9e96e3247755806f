"""What a prune asks of a verify, and makes of its answer."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from blockdiff.errors import BlockdiffError, ChainBroken
from blockdiff.rewriting.survey import KEPT, Survey
from blockdiff.sets import verified
from blockdiff.sets.backupset import BackupSet


class Checked(Protocol):
    """What a verify found of one version."""

    number: int
    restores: bool
    before: bool
    faults: list[BlockdiffError]


class Verified(Protocol):
    """What a verify found."""

    read: int  # bytes of diff files

    @property
    def versions(self) -> Sequence[Checked]:
        """Each version that was looked at."""

    @property
    def proofs(self) -> Mapping[int, verified.Proof]:
        """Those without any fault."""


# verify what restores of these versions read; given are also proofs that are good enough, and what says,
# by the bytes that were read, whether to stop
Prove = Callable[[Collection[int], Mapping[int, verified.Proof], Callable[[int], bool]], Verified]


def fault(backup_set: BackupSet, found: Mapping[int, Checked], seen: Survey, number: int) -> BlockdiffError:
    """Return a fault of a version that must stay, or of one that it needs."""
    parents = {entry.number: entry.parent for entry in seen.entries}
    at: int | None = number
    while at is not None:
        for one in found[at].faults if at in found else []:
            one.hint = one.hint or KEPT
            return one
        at = parents.get(at)
    return ChainBroken(number, backup_set.name, "it was found not to restore", hint=KEPT)
