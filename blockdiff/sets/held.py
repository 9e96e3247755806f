"""Files of a set that a reader opens before it begins, and holds until it ends.

A prune or a rewrite beside it renames and unlinks; what is open stays what it was.  Between the look
at the folder and the opening it may change the folder: then the reader looks again.
Format: blockdiff-formats(5), "Rewriting a version" and "Removing a version".
"""

import contextlib
import errno
import resource
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from blockdiff.errors import BlockdiffError, StoreUnreadable
from blockdiff.formats import names
from blockdiff.place.base import Blob, Look
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.version import VersionFiles

_TRIES = 10  # to find the set as it was when the folder was listed
_SPARE = 32  # descriptors that are left for everything else

_T = TypeVar("_T")


@contextlib.contextmanager
def holding(
    backup_set: BackupSet, collect: Callable[[names.Listing, "Held"], tuple[_T, list[VersionFiles]]]
) -> Iterator[_T]:
    """Give what `collect` finds in a listing; the files that it returns with it stay open meanwhile.

    It is called again as long as files of the set are removed or replaced while it looks.  The files
    are opened through `Held.open`.  Raises what it raises, or StoreUnreadable.
    """
    for left in reversed(range(_TRIES)):
        with contextlib.closing(Held(backup_set, backup_set.settled_listing())) as held:
            try:
                found, files = collect(held.listing, held)
            except BlockdiffError:
                if left and held.changed():
                    continue
                raise
            held.hold(files, held.others)
            if not held.changed():
                yield found
                return
    hint = "wait until the prune there has ended, and run again"
    raise StoreUnreadable(backup_set.name, "its files are replaced again and again", hint=hint)


class Held:
    """Files that are open, and how all of the set's files looked when the folder was listed."""

    def __init__(self, backup_set: BackupSet, listing: names.Listing) -> None:
        self.listing, self._place = listing, backup_set.place
        paths = [backup_set.path(n, suffix) for n, suffixes in listing.versions.items() for suffix in suffixes]
        self._looks = {path: self._look(path) for path in paths}
        self._blobs: dict[str, Blob] = {}
        self.others: list[str] = []  # paths of files that are held beside those of `collect`

    def close(self) -> None:
        """Close all files."""
        for blob in self._blobs.values():
            blob.close()
        self._blobs.clear()

    def _look(self, path: str) -> Look | None:
        try:
            return self._place.look(path)
        except OSError:
            return None

    def changed(self, path: str | None = None) -> bool:
        """Return whether a file, or any of the set, was removed or replaced since the folder was listed."""
        looks = self._looks if path is None else {path: self._looks.get(path)}
        return self._place.looks(looks) != looks

    def hold(self, files: Iterable[VersionFiles], others: Iterable[str] = ()) -> None:
        """Open these files; those that are too many, or cannot be opened, are opened when they are read.

        `others`: paths of more files, which matter less.
        """
        files = list(files)
        paths = [path for each in files for path in (each.diff, each.index) if path is not None]
        paths += [each.digests for each in files]
        paths += others
        limit = _room(len(paths))
        for path in paths:
            try:
                blob = self._place.open(path)
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    return
                continue
            if blob.fileno() >= limit:
                blob.close()
                return
            self._blobs[path] = blob

    def open(self, path: str) -> Blob:
        """Open a file, which the caller closes.  Raises OSError."""
        if path in self._blobs:
            return self._blobs[path].again()
        blob = self._place.open(path)
        if path in self._looks and blob.look() != self._looks[path]:
            blob.close()
            raise OSError(errno.ESTALE, "it was replaced while this ran; run again", path)
        return blob


def _room(count: int) -> int:
    """Return below which number descriptors may be held; allows this process more if `count` files are too many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and count + 2 * _SPARE > soft:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return count + (1 << 20) if soft == resource.RLIM_INFINITY else soft - _SPARE
