"""What is noted outside the sets, in the user's folder of state: which versions were proved, and when."""

import contextlib
import os
import time
from collections.abc import Iterable, Mapping

from blockdiff.errors import BlockdiffError
from blockdiff.sets import verified, versions
from blockdiff.sets.backupset import BackupSet


def proofs(name: str) -> str:
    """Return the path of the file that notes which versions of a set were proved."""
    return verified.path_of(os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state"), name)


def proved(name: str) -> dict[int, verified.Proof]:
    """Return the proofs of a set."""
    return verified.load(proofs(name))


def add_proofs(name: str, more: Mapping[int, verified.Proof]) -> None:
    """Note more proofs; where that cannot be done, the versions count as not proved."""
    with contextlib.suppress(OSError):
        verified.save(proofs(name), os.path.abspath(name), {**proved(name), **more})


def note_proved(backup_set: BackupSet, numbers: Iterable[int]) -> None:
    """Note that these versions have just been proved."""
    listing = backup_set.listing()
    found = {}
    for number in numbers:
        with contextlib.suppress(BlockdiffError, OSError):
            version = versions.version(backup_set, number, listing, deep=False)
            found[number] = verified.of(backup_set, version, int(time.time()))
    add_proofs(backup_set.name, found)
