"""What a version of a sealed set shows without a key: its files, their sizes, whether their bytes are as sent.

Whether a version is a full, and which one it continues, is in its manifest, which is sealed as well.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from blockdiff.errors import BlockdiffError, DamagedFile, MissingFile, StoreUnreadable
from blockdiff.formats import names
from blockdiff.sets import expected
from blockdiff.sets.backupset import BackupSet

_LISTED = (".idx", ".xxh128", ".sig")  # only a manifest lists them, so that they show that there was one
_SPEEDS_UP = (".idx", ".xxh128")
_FIRST = 128 * 1024  # bytes, with which it shows what a larger file is


@dataclass
class Unopened:
    """What was found of one version."""

    number: int
    files: int = 0
    stored: int = 0  # bytes of them
    unmarked: int = 0  # files of which the place does not tell what bytes were sent
    read: int = 0  # bytes of its diff file that were compared
    faults: list[BlockdiffError] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def look(
    backup_set: BackupSet, numbers: Sequence[int], listing: names.Listing, progress: Callable[[int], object]
) -> Iterator[Unopened]:
    """Yield what is found of each of these versions but for those that are removed meanwhile.

    `progress` is called with bytes that were read to compare them.
    """
    for number in expected.ahead(backup_set, numbers, listing, ".idx", ".sig", surely=True):
        expected.expect(backup_set, [number], listing, *names.DIFF_SUFFIXES, first=_FIRST)
        found = Unopened(number)
        found.faults += _missing(backup_set, number, listing)
        for suffix in sorted(listing.versions[number]):
            _file(backup_set, number, suffix, found, progress)
        if not any(isinstance(fault, MissingFile) for fault in found.faults) or _is_there(backup_set, number):
            yield found


def _missing(backup_set: BackupSet, number: int, listing: names.Listing) -> Iterator[MissingFile]:
    """Yield a fault for each file that the version must have and that is not there."""
    suffixes, path = listing.versions[number], backup_set.path(number, "")
    if ".md5" not in suffixes:
        yield MissingFile(f"{path}.md5{names.SEALED}")
    if not listing.diffs(number):
        yield MissingFile(f"the diff file {path}, under every suffix with {names.SEALED},")
    if ".json" not in suffixes and not suffixes.isdisjoint(_LISTED):
        yield MissingFile(f"{path}.json{names.SEALED}")


def _file(
    backup_set: BackupSet, number: int, suffix: str, found: Unopened, progress: Callable[[int], object]
) -> None:
    """Look at one file."""
    path = backup_set.path(number, suffix)
    stored = f"{path}{names.SEALED}"
    try:
        size = backup_set.place.look(path).size
        found.files, found.stored = found.files + 1, found.stored + size
        as_sent = backup_set.place.as_sent(path, progress)
        if as_sent is False:
            raise DamagedFile(stored, "its bytes are not those that were sent to the object store")
    except FileNotFoundError:
        found.faults.append(MissingFile(stored))
    except OSError as error:
        found.faults.append(StoreUnreadable(stored, error.strerror))
    except BlockdiffError as error:
        if suffix not in _SPEEDS_UP or not isinstance(error, DamagedFile):
            found.faults.append(error)
        else:
            found.warnings.append(f"{error}; it only speeds things up, and is not needed to restore")
    else:
        found.unmarked += as_sent is None
        found.read += size if as_sent and suffix in names.DIFF_SUFFIXES else 0


def _is_there(backup_set: BackupSet, number: int) -> bool:
    return number in backup_set.listing().versions
