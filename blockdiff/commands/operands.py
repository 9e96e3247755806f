"""NAME and SOURCE as people mix them up: told before anything is locked or made."""

import contextlib
import os
import shutil
import stat
from collections.abc import Sequence

import click

from blockdiff.commands import text
from blockdiff.errors import NoSuchSet
from blockdiff.ingest.job import Job
from blockdiff.sets.backupset import BackupSet
from blockdiff.transport.destination import parse_source


def is_source(word: str) -> bool:
    """Tell whether a word that should be a program's is a source's."""
    try:
        destination, path = parse_source(word)
    except ValueError:
        return False
    return shutil.which(word) is None and (destination is not None or _is_volume(path))


def _is_volume(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(mode) or stat.S_ISBLK(mode)


def named_set(name: str, path: str | None) -> BackupSet:
    """Return the set of this name for a source's path, None if it is not of this machine.

    What is a folder or a source itself is taken for a set only if it has versions.  Raises NoSuchSet.
    """
    in_it = os.path.join(name, os.path.basename(path or "") or "web")
    folder = NoSuchSet(name, hint=f"that is a folder; a set in it is named such as {text.name(in_it)}")
    swapped = NoSuchSet(name, hint="NAME comes first, then the source")
    try:
        store = BackupSet(name)
    except NoSuchSet:
        if os.path.isdir(name):
            raise folder from None
        with contextlib.suppress(ValueError):
            if parse_source(name)[0] is not None:
                raise swapped from None
        raise
    listing = store.listing()
    if not listing.has_ver and not listing.versions:
        if os.path.isdir(name):
            raise folder
        if os.path.exists(name) and not (os.path.isfile(name) and (path is None or _is_volume(path))):
            raise swapped
    return store


def refuse_twins(jobs: Sequence[Job]) -> None:
    """Refuse two sources for one set, however its name is spelt.  Raises click.UsageError."""
    seen = set()
    for job in jobs:
        folder = os.stat(job.store.folder)
        place = folder.st_dev, folder.st_ino, job.store.base
        if place in seen:
            raise click.UsageError(f"the set {text.name(job.store.name)} is named twice")
        seen.add(place)
