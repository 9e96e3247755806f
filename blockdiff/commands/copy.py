"""blockdiff-copy NAME... DEST: copy the versions that another place lacks, each proved before it is there."""

import dataclasses
import functools
import os
import time
from typing import TYPE_CHECKING, Any

import click

from blockdiff.commands import amounts, completing, exits, joblist, options_seal, options_sign, setnames, state, text
from blockdiff.commands.progress import line, progress
from blockdiff.errors import BlockdiffError

if TYPE_CHECKING:
    from blockdiff.place.base import Access
    from blockdiff.sealing.keys import Identity
    from blockdiff.signing.allowed import AllowedSigners

_WARNED = 3


@click.command()
@click.argument("operands", metavar="NAME... DEST", nargs=-1, required=True, shell_complete=completing.sets)
@click.option("--all", "every", is_flag=True,
              help="Into a set without versions: copy all, not from the last full on.")  # fmt: skip
@click.option("--bwlimit", type=amounts.Bytes(0, 1 << 50), default=0, metavar="RATE",
              help="Write at most so many bytes a second: 512K, 10M.")  # fmt: skip
@click.option("--retain-days", type=click.IntRange(1, 36500), metavar="D",
              help="Lock the copy in its store for D days.")  # fmt: skip
@click.option("--storage-class", metavar="C", help="Storage class of diff files in a store.")
@options_seal.recipient_option
@options_seal.recipients_file_option
@options_seal.identity_option
@options_sign.sign_unsigned_option
@options_sign.signers_option
@click.option("-n", "--dry-run", is_flag=True, help="Print what would be copied; change nothing.")
@amounts.jobs_option
@amounts.wait_option
@joblist.option
@text.json_option
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but warnings and errors.")
@click.pass_context
def command(
    context: click.Context,
    operands: tuple[str, ...],
    every: bool,
    bwlimit: int,
    retain_days: int | None,
    storage_class: str | None,
    recipients: tuple[str, ...],
    recipients_files: tuple[str, ...],
    identities: "tuple[Identity, ...]",
    sign: str | None,
    signers: "AllowedSigners | None",
    dry_run: bool,
    jobs: int | None,
    wait: float,
    list_path: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Copy those versions of set NAME that DEST lacks, oldest first, each proved before it is there.

    NAME can be a folder, for all sets in it.  DEST is the set's name at another place, or a folder.
    A set without versions begins with the full that the newest version needs.
    """
    from blockdiff.place import base, choose

    *names, dest = operands
    access = base.Access(recipients=options_seal.recipients(recipients, recipients_files))
    if choose.in_store(dest):
        until = None if retain_days is None else int(time.time()) + retain_days * 86400
        access = dataclasses.replace(
            access, locks=state.locks(), alone=True, lock_until=until, storage_class=storage_class
        )
    elif retain_days is not None or storage_class is not None:
        option = "--storage-class" if retain_days is None else "--retain-days"
        raise click.UsageError(f"{option} is for a copy in an object store, and {text.name(dest)} is a path")
    pairs = _pairs(setnames.expand(names, list_path), dest, access)
    copy = functools.partial(
        _copy, reading=base.Access(identities=identities), signers=signers, access=access,
        signing=options_sign.signer(sign), every=every, rate=bwlimit, dry_run=dry_run, wait_s=wait,
        until=access.lock_until,
        threads=jobs or len(os.sched_getaffinity(0)), as_json=as_json, quiet=quiet, several=len(pairs) > 1,
    )  # fmt: skip
    codes = []
    for name, other in pairs:
        try:
            codes.append(copy(name, other))
        except BlockdiffError as error:
            if len(pairs) == 1:
                raise
            error.concern(text.name(name))
            codes.append(exits.report(error))
            if as_json:
                text.put_json({"set": name, "dest": other, "error": exits.describe(error)}, line=True)
    failed = [code for code in codes if code not in (0, _WARNED)]
    context.exit(failed[0] if failed else max(codes))


def _pairs(names: list[str], dest: str, access: "Access") -> list[tuple[str, str]]:
    """Return each set and the one that it is copied to.  Raises click.UsageError, and as choose.is_place."""
    from blockdiff.place import choose

    into = dest.endswith("/") or choose.is_place(dest, access)
    if len(names) > 1 and not into:
        raise click.UsageError(f"several sets are copied to a folder, and {text.name(dest)} is none")
    pairs = [(name, os.path.join(dest, os.path.basename(name)) if into else dest) for name in names]
    others = [other for _, other in pairs]
    for name, other in pairs:
        if others.count(other) > 1:
            raise click.UsageError(f"two sets would be copied to {text.name(other)}")
        if name == other or joblist.identity(name) == joblist.identity(other):
            raise click.UsageError(f"{text.name(name)} would be copied to itself")
    return pairs


def _copy(
    name: str, dest: str, *, reading: "Access", signers: "AllowedSigners | None", access: "Access",
    as_json: bool, quiet: bool, several: bool, dry_run: bool,
    **options: Any,
) -> int:  # fmt: skip
    """Copy one set and print the result; returns its exit code."""
    from blockdiff import copy
    from blockdiff.sets.backupset import BackupSet

    def say(words: str) -> None:
        if not quiet and not as_json:
            line(words)

    shown = text.name(name)
    done = copy.copy(
        BackupSet(name, reading, signers),
        BackupSet(dest, access),
        dry_run=dry_run,
        progress=functools.partial(progress, label=text.name(os.path.basename(name)), enabled=not quiet),
        copied=lambda one: say(_line(shown, one, dry_run)),
        **options,
    )
    if not done.versions and not done.faults:
        say(f"{shown}: nothing to copy, {text.name(dest)} has version {done.before}")
    if as_json:
        text.put_json(_json(done), line=several)
    where = f"{shown}: " if several else ""
    for fault in done.faults:
        click.echo(f"blockdiff: {where}{fault}", err=True)
    for words in done.warnings:
        text.warn(f"{where}{words}")
    return done.exit_code


def _line(name: str, one: Any, dry_run: bool) -> str:
    kind = "full" if one.full else "incremental"
    if dry_run:
        return f"{name}: version {one.number} would be copied: {kind}, {text.size(one.stored)}"
    rate = f", {text.size(int(one.stored / one.seconds))}/s" if one.seconds >= 1 else ""
    return f"{name}: version {one.number} copied: {kind}, {text.size(one.stored)} in {one.seconds:.1f} s{rate}"


def _json(done: Any) -> dict[str, Any]:
    return {
        "set": done.name,
        "dest": done.dest,
        "newest": done.newest,
        "newest_before": done.before,
        "dry_run": done.dry_run,
        "extended": done.extended,
        "versions": [
            {
                "version": one.number,
                "kind": "full" if one.full else "incremental",
                "stored": one.stored,
                "seconds": round(one.seconds, 3),
            }
            for one in done.versions
        ],
        "faults": [exits.brief(fault) for fault in done.faults],
        "warnings": done.warnings,
        "exit_code": done.exit_code,
    }
