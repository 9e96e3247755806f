"""A chain that is too long to be merged at once is folded first: some versions into one draft, and so on."""

import contextlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from blockdiff import codecs
from blockdiff.blocks.parallel import Progress
from blockdiff.place.folder import open_file
from blockdiff.rewriting import merge
from blockdiff.rewriting.plan import Plan
from blockdiff.sets import versions
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.digests import Digests
from blockdiff.sets.newdiff import NewDiff
from blockdiff.sets.version import VersionFiles


def folded(
    plan: Plan, pool: ThreadPoolExecutor, cleanup: contextlib.ExitStack, progress: Progress
) -> tuple[list[VersionFiles], int]:
    """Return what is merged in the end, oldest first, and the bytes of diff files that were read for it.

    Drafts are among it, which `cleanup` removes.  `progress` is of what is read for one level of drafts at a time:
    how large they become is not known before.  Raises what `merge` does.
    """
    files = [versions.files_of(plan.backup_set, link) for link in plan.links]
    before = None if plan.onto is None else versions.files_of(plan.backup_set, plan.onto)
    most, read = merge.most_versions(plan.version.block_size), 0
    drafts = _Drafts()
    cleanup.callback(drafts.discard)
    while len(files) > most:
        # a full is not folded: it is read once, and without those of its members that are not needed
        kept, rest = (files[:1], files[1:]) if before is None else ([], files)
        run = BackupSet(plan.backup_set.name)  # other temporary names than those of the level before
        older, made = kept[0] if kept else before, kept
        groups = [rest[place : place + most] for place in range(0, len(rest), most)]
        with progress(sum(stored(group) for group in groups if len(group) > 1)) as done:
            for group in groups:
                draft, some = _fold(run, group, older, plan.version.suffix, pool, drafts, done)
                made.append(draft)
                read += some
                older = group[-1]
        files = made
        drafts.discard(files)
    return files, read


def stored(some: Iterable[VersionFiles]) -> int:
    """Return how many bytes these diff files have; who reads them finds what is missing."""
    total = 0
    for files in some:
        with contextlib.suppress(OSError), contextlib.closing(files.open(files.diff)) as blob:
            total += blob.size
    return total


class _Drafts:
    """The drafts that there are."""

    def __init__(self) -> None:
        self._made: dict[str, NewDiff] = {}  # by path

    def add(self, new: NewDiff) -> str:
        """Keep one until it is discarded; return its path."""
        path = new.files[new.suffix].path
        self._made[path] = new
        return path

    def discard(self, needed: Sequence[VersionFiles] = ()) -> None:
        """Remove those that are not needed any more."""
        for path in self._made.keys() - {files.diff for files in needed}:
            self._made.pop(path).discard()


def _fold(
    backup_set: BackupSet,
    group: list[VersionFiles],
    older: VersionFiles | None,
    suffix: str,
    pool: ThreadPoolExecutor,
    drafts: _Drafts,
    progress: Callable[[int], object],
) -> tuple[VersionFiles, int]:
    """Merge some versions into a draft of the newest of them, onto the one before them."""
    if len(group) == 1:
        return group[0], 0
    last = group[-1]
    assert older is not None
    new = NewDiff(backup_set, last.version.number, codecs.BY_SUFFIX[suffix], last.version.block_size)
    path = drafts.add(new)
    with Digests(older.digests, older.version.count) as base:
        merged = merge.merge(group, base, new, pool, progress)
    new.close(merged.payload)
    index = new.files.get(".idx")
    version = replace(last.version, suffix=suffix)
    return VersionFiles(version, path, last.digests, None if index is None else index.path, open_file), merged.read
