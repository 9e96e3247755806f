"""What is noted outside the sets, in the user's folder of state: which versions were proved, which are damaged."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from blockdiff.errors import BlockdiffError, StoreFailed
from blockdiff.place import choose
from blockdiff.sets import drills, verified, versions
from blockdiff.sets.backupset import BackupSet


class Checked(Protocol):
    """What a verify found of one version."""

    number: int
    restores: bool
    unknown: bool
    lost: list[tuple[int, int]]
    faults: list[BlockdiffError]

    @property
    def earned(self) -> verified.Proof | None:
        """Its proof, if nothing is wrong with it."""


def path(name: str) -> str:
    """Return the path of the file that has the notes of a set."""
    return verified.path_of(os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state"), name)


def drills_path(name: str) -> str:
    """Return the path of the file that has the results of a set's drills: beside the set, if it is in a folder."""
    if not choose.in_store(name):
        return drills.path_of(name)
    return path(name).removesuffix(".json") + drills.SUFFIX


def add_drill(name: str, value: dict[str, Any], keep: int) -> None:
    """Keep the result of a drill, and only so many.  Raises OSError."""
    where = drills_path(name)
    if choose.in_store(name):
        os.makedirs(os.path.dirname(where), mode=0o700, exist_ok=True)
    drills.add(where, value, keep)


def notes(name: str) -> verified.Notes:
    """Return what is noted of a set."""
    return verified.load(path(name))


def locks() -> str:
    """Return the folder for the locks of sets that are in object stores; it is made.  Raises StoreFailed."""
    folder = os.path.join(os.path.dirname(os.path.dirname(path(""))), "locks")
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
    except OSError as error:
        raise StoreFailed(folder, error.strerror) from None
    return folder


def note_checked(name: str, found: Iterable[Checked], existing: Iterable[int] | None = None) -> None:
    """Note what a verify found.  Raises OSError.

    `existing`: all versions that the set has; what was noted of others is removed.  None: not known.
    """
    with _changing(name) as noted:
        for version in found:
            noted.proofs.pop(version.number, None)
            if version.earned is not None:
                noted.proofs[version.number] = version.earned
            if version.restores:
                noted.damage.pop(version.number, None)
            elif not version.unknown:
                noted.damage[version.number] = _damage(version)
        if existing is not None:
            for some in (noted.proofs, noted.damage):
                for number in some.keys() - set(existing):
                    del some[number]


def _damage(version: Checked) -> verified.Damage:
    what = version.faults[0].message if version.faults else "blocks that an earlier version has are lost"
    return verified.Damage(int(time.time()), what, tuple(version.lost))


def add_proofs(name: str, more: Mapping[int, verified.Proof]) -> None:
    """Note more proofs; where that cannot be done, the versions count as not proved."""
    with contextlib.suppress(OSError), _changing(name) as noted:
        noted.proofs.update(more)
        for number in more:
            noted.damage.pop(number, None)


def note_proved(backup_set: BackupSet, numbers: Iterable[int]) -> None:
    """Note that these versions have just been proved."""
    listing = backup_set.listing()
    found = {}
    for number in numbers:
        with contextlib.suppress(BlockdiffError, OSError):
            version = versions.version(backup_set, number, listing, deep=False)
            found[number] = verified.of(backup_set, version, int(time.time()))
    add_proofs(backup_set.name, found)


@contextlib.contextmanager
def _changing(name: str) -> Iterator[verified.Notes]:
    """Give the notes of a set to change, and save them; two programs do so one after the other.  Raises OSError."""
    where = path(name)
    os.makedirs(os.path.dirname(where), mode=0o700, exist_ok=True)
    folder = os.open(os.path.dirname(where), os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        noted = verified.load(where)
        yield noted
        verified.save(where, choose.absolute(name), noted)
    finally:
        os.close(folder)
