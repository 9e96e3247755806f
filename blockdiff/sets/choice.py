"""The versions that a restore reads, opened: a whole chain, or with force what there is of it."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

from blockdiff.errors import BlockdiffError, ChainBroken, DamagedFile, NotOurFormat, StoreUnreadable
from blockdiff.formats import names
from blockdiff.sets import chain, expected, verified, versions
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.held import Held, holding
from blockdiff.sets.version import Version, VersionFiles


@dataclass(frozen=True)
class Choice:
    """A version and those that it needs."""

    files: list[VersionFiles]  # oldest first
    sizes: list[int]  # of their diff files, in bytes
    proof: verified.Proof | None  # that the last one gets if every block of its diff file is proved
    warnings: list[str]


@contextlib.contextmanager
def chosen(backup_set: BackupSet, number: int | None, force: bool) -> Iterator[Choice]:
    """Give version `number` (None: the newest) and those that it needs; their files stay open meanwhile.

    `force` accepts a chain that is not linked or lacks versions.  Raises BlockdiffError.
    """

    def collect(listing: names.Listing, held: Held) -> tuple[Choice, list[VersionFiles]]:
        meant, warnings = versions.choose(backup_set, number, listing, force)
        links = _links(backup_set, meant, listing, force, warnings)
        files = [versions.files_of(backup_set, link, held.open) for link in links]
        backup_set.place.soon((each.diff for each in reversed(files)), expected.SMALL)
        sizes = [_size(backup_set, each) for each in files]
        return Choice(files, sizes, _proof(backup_set, links[-1]), warnings), files[::-1]

    with holding(backup_set, collect) as found:
        yield found


def _size(backup_set: BackupSet, files: VersionFiles) -> int:
    try:
        return backup_set.place.size(files.diff)
    except OSError as error:
        raise StoreUnreadable(files.diff, error.strerror) from None


def _proof(backup_set: BackupSet, version: Version) -> verified.Proof | None:
    with contextlib.suppress(OSError):
        return verified.of(backup_set, version, int(time.time()))
    return None


def _links(
    backup_set: BackupSet, number: int, listing: names.Listing, force: bool, warnings: list[str]
) -> list[Version]:
    """Return the versions to read, oldest first; with force those that exist."""
    try:
        return chain.chain_of(backup_set, number, listing)
    except (ChainBroken, DamagedFile, NotOurFormat) as error:
        if not force:
            raise
        warnings.append(str(error))
    found = [versions.version(backup_set, number, listing)]
    while found[0].parent is not None:
        for candidate in range(found[0].parent, 0, -1):
            try:
                older = versions.version(backup_set, candidate, listing)
            except BlockdiffError:
                continue
            if older.block_size == found[-1].block_size:
                found.insert(0, older)
                break
        else:
            break
    return found
