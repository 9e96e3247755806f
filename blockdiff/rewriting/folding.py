"""A chain that is too long to be merged at once is folded first: some versions into one draft, and so on."""

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from blockdiff import codecs
from blockdiff.rewriting import merge
from blockdiff.rewriting.plan import Plan
from blockdiff.sets import versions
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.digests import Digests
from blockdiff.sets.newdiff import NewDiff
from blockdiff.sets.version import VersionFiles


def folded(
    plan: Plan, pool: ThreadPoolExecutor, cleanup: contextlib.ExitStack, progress: Callable[[int], object]
) -> tuple[list[VersionFiles], int]:
    """Return what is merged in the end, oldest first, and the bytes of diff files that were read for it.

    Drafts are among it, which `cleanup` removes.  Raises what `merge` does.
    """
    files = [versions.files_of(plan.backup_set, link) for link in plan.links]
    before = None if plan.onto is None else versions.files_of(plan.backup_set, plan.onto)
    most, read = merge.most_versions(plan.version.block_size), 0
    drafts = contextlib.ExitStack()  # of the level before
    while len(files) > most:
        # a full is never folded: it is read once, and so are those of its members that are not needed not at all
        kept, rest = (files[:1], files[1:]) if before is None else ([], files)
        level = contextlib.ExitStack()
        with contextlib.ExitStack() as failed:
            failed.push(drafts)
            failed.push(level)
            run = BackupSet(plan.backup_set.name)  # other temporary names than those of the level before
            made, older = [], kept[0] if kept else before
            for place in range(0, len(rest), most):
                group = rest[place : place + most]
                draft, some = _fold(run, group, older, plan.version.suffix, pool, level, progress)
                made.append(draft)
                read += some
                older = group[-1]
            failed.pop_all()
        drafts.close()
        drafts, files = level, [*kept, *made]
    cleanup.push(drafts)
    return files, read


def _fold(
    backup_set: BackupSet,
    group: list[VersionFiles],
    older: VersionFiles | None,
    suffix: str,
    pool: ThreadPoolExecutor,
    drafts: contextlib.ExitStack,
    progress: Callable[[int], object],
) -> tuple[VersionFiles, int]:
    """Merge some versions into a draft of the newest of them, onto the one before them."""
    if len(group) == 1:
        return group[0], 0
    last = group[-1]
    assert older is not None
    new = NewDiff(backup_set, last.version.number, codecs.BY_SUFFIX[suffix], last.version.block_size)
    drafts.callback(new.discard)
    with Digests(older.digests, older.version.count) as base:
        merged = merge.merge(group, base, new, pool, progress)
    new.close(merged.payload)
    index = new.parts.get(".idx")
    version = replace(last.version, suffix=suffix)
    draft = VersionFiles(version, new.parts[suffix].path, last.digests, index.path if index is not None else None)
    return draft, merged.read
