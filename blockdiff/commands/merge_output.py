"""What blockdiff-merge prints of a restore."""

from typing import Any

import click

from blockdiff.commands import exits, text


def put(done: Any, as_json: bool, quiet: bool, verbose: bool, seconds: float, err: bool) -> None:
    """Print what a restore did in so many seconds, without the error that stopped it; `err`: all of it on stderr."""
    if as_json:
        text.put_json(_json(done))
    elif not quiet:
        if verbose or done.dry_run:
            for version, file, size in done.files:
                click.echo(f"read version {version}: {text.name(file)}, {text.amount(size, verbose)}", err=err)
        if done.differed is not None:
            click.echo(f"{text.name(done.path)}: {text.name(done.target)}", err=err)
        click.echo(_summary(done, verbose, seconds), err=err)
    for line in done.notes if not quiet else ():
        click.echo(f"blockdiff: {line}", err=True)
    for line in done.warnings:
        text.warn(line)
    if done.failure is not None and not done.whole:
        where = f"{text.name(done.path)} is not version {done.version}; "
        if done.differed is not None:
            placed, sent = text.amount(done.placed, verbose), text.amount(done.sent, verbose)
            what = f"{sent} were sent, {placed} of them are known to be on its disk"
        elif done.right:
            amount, ranges = text.amount(done.right_bytes, verbose), text.ranges(done.right, done.right_more)
            what = f"{amount} of it are right: bytes {ranges}"
        else:
            what = "none of its bytes are known to be right"
        click.echo(f"blockdiff: {where}{what}", err=True)
    if done.failure is not None and done.left:
        click.echo(f"blockdiff: {text.name(done.left)}", err=True)


def _summary(done: Any, exact: bool, seconds: float) -> str:
    size = "at most the size of its blocks" if done.size is None else text.amount(done.size, exact)
    if done.dry_run:
        return f"write version {done.version}, {size}, to {text.name(done.path)}: {done.target}"
    if done.failure is not None:
        return f"version {done.version} was not restored"
    if done.differed is not None:
        return (
            f"restored version {done.version} of {text.name(done.name)}: {done.differed} of {done.blocks} blocks"
            f" differed, {text.amount(done.sent, exact)} sent, {seconds:.1f} s, proved"
        )
    written, zeros, read = (text.amount(count, exact) for count in (done.written, done.zeros, done.read))
    return (
        f"restored version {done.version} of {text.name(done.name)} to {text.name(done.path)}: {size}"
        f" ({written} written, {zeros} zeros, {read} read)"
    )


def _json(done: Any) -> dict[str, Any]:
    failure = done.failure
    return {
        "set": done.name,
        "version": done.version,
        "target": done.path,
        "target_was": done.target,
        "dry_run": done.dry_run,
        "size": done.size,
        "files": [{"version": n, "path": path, "size": size} for n, path, size in done.files],
        "read": done.read,
        "written": done.written,
        "zeros": done.zeros,
        "blocks": done.blocks,
        "differed": done.differed,
        "sent": done.sent,
        "notes": done.notes,
        "warnings": done.warnings,
        "error": None if failure is None else exits.describe(failure),
        "right": None
        if failure is None
        else {"bytes": done.right_bytes, "ranges": done.right, "complete": not done.right_more},
    }
