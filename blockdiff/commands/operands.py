"""NAME, SOURCE and COMMAND: distinguished, and refused if they are mixed up, before anything is locked or made."""

import contextlib
import os
import shutil
import stat
from collections.abc import Mapping, Sequence

import click

from blockdiff.commands import dump_arguments, text
from blockdiff.errors import NoSuchSet
from blockdiff.ingest.job import Job
from blockdiff.place import choose
from blockdiff.place.base import PLAIN, Access
from blockdiff.sets.backupset import BackupSet
from blockdiff.transport.destination import parse_source


def split(args: Sequence[str], values: Mapping[str, int], always_command: bool) -> tuple[list[str], list[str]]:
    """Return (our own words: options, NAME and perhaps SOURCE; the COMMAND's words, if there is one).

    After NAME, one operand that is not a known command is a SOURCE; options of ours may be before
    and after it.  A known command, two operands or more, or `--`, begins a COMMAND, to the end.
    """
    found: list[int] = []  # places of operands
    place = 0
    while place < len(args):
        word = args[place]
        if word == "--":
            if found:
                return list(args[: found[1] if len(found) > 1 else place]), list(
                    args[found[1] if len(found) > 1 else place + 1 :]
                )
            # before NAME: only operands follow
            behind = list(args[place + 1 :])
            if len(behind) > 2 or always_command or (len(behind) == 2 and dump_arguments.known(behind[1])):
                words = behind[2:] if behind[1:2] == ["--"] else behind[1:]
                return [*args[: place + 1], *behind[:1]], words
            return list(args), []
        if word.startswith("-") and len(word) > 1:
            place += 1 + values.get(word, 0)
            continue
        found.append(place)
        if len(found) == 2 and (always_command or dump_arguments.known(word)):
            return list(args[:place]), list(args[place:])
        place += 1
    if len(found) > 2:
        return list(args[: found[1]]), list(args[found[1] :])
    return list(args), []


class Command(click.Command):
    """A command whose words after NAME may be another command's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        values = {
            name: parameter.nargs
            for parameter in self.params
            if isinstance(parameter, click.Option) and not parameter.is_flag
            for name in parameter.opts
        }
        own, words = split(args, values, always_command=ctx.info_name == "blockdiff_backup")
        ctx.obj = words
        return super().parse_args(ctx, own)


def is_source(word: str) -> bool:
    """Return whether a word that should name a program is a source."""
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


def named_set(name: str, path: str | None, access: Access = PLAIN) -> BackupSet:
    """Return the set of this name for a source's path, None if it is not of this machine.

    A name that is also a folder or a source counts as a set only if the set has versions.  Raises NoSuchSet.
    """
    if choose.in_store(name):
        return BackupSet(name, access)
    in_it = os.path.join(name, os.path.basename(path or "") or "web")
    folder = NoSuchSet(name, hint=f"that is a folder; a set in it is named such as {text.name(in_it)}")
    swapped = NoSuchSet(name, hint="NAME comes first, then the source")
    try:
        backup_set = BackupSet(name)
    except NoSuchSet:
        if os.path.isdir(name):
            raise folder from None
        with contextlib.suppress(ValueError):
            if parse_source(name)[0] is not None:
                raise swapped from None
        raise
    listing = backup_set.listing()
    if not listing.has_ver and not listing.versions:
        if os.path.isdir(name):
            raise folder
        if os.path.exists(name) and not (os.path.isfile(name) and (path is None or _is_volume(path))):
            raise swapped
    return backup_set


def refuse_twins(jobs: Sequence[Job]) -> None:
    """Refuse two sources for one set, also with different spellings of its name.  Raises click.UsageError."""
    seen: set[tuple[object, str]] = set()
    for job in jobs:
        place: object = job.backup_set.folder
        if not choose.in_store(job.backup_set.folder):
            folder = os.stat(job.backup_set.folder)
            place = folder.st_dev, folder.st_ino
        if (place, job.backup_set.base) in seen:
            raise click.UsageError(f"the set {text.name(job.backup_set.name)} is named twice")
        seen.add((place, job.backup_set.base))
