"""Which files of a set will be read soon, so that a distant place can fetch them meanwhile, side by side."""

from collections.abc import Iterable, Iterator, Sequence

from blockdiff.formats import digestfile, names
from blockdiff.sets.backupset import BackupSet

SMALL = 256 * 1024  # bytes; a request for so many takes hardly longer than for one
_WINDOW = 16  # versions


def ahead(
    backup_set: BackupSet, numbers: Sequence[int], listing: names.Listing, *more: str, deep: bool = True,
    surely: bool = False,
) -> Iterator[int]:
    """Yield these numbers; what `versions.version` reads, and files with suffixes `more`, is expected some before.

    `surely`: all of them will be asked for; else more and more are expected while they are.
    """
    for place, number in enumerate(numbers):
        if place & (place - 1) == 0 or place % _WINDOW == 0:
            some = numbers[place : place + (2 * _WINDOW if surely else min(2 * place + 2, 2 * _WINDOW))]
            expect(backup_set, some, listing, ".json", *more)
            expect(backup_set, some, listing, ".md5", most=SMALL if deep else 0, first=digestfile.HEADER_SIZE)
        yield number


def expect(
    backup_set: BackupSet, numbers: Iterable[int], listing: names.Listing, *suffixes: str, most: int = SMALL,
    first: int = 0,
) -> None:  # fmt: skip
    """Have the place know that files with these suffixes, or `first` bytes of those above `most`, are read soon."""
    backup_set.place.soon(
        (backup_set.path(n, suffix) for n in numbers for suffix in suffixes if suffix in listing.versions.get(n, ())),
        most, first,
    )  # fmt: skip
