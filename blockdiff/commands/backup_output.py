"""What blockdiff-backup prints of its results, for people and as JSON."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from blockdiff.commands import exits, text
from blockdiff.errors import BlockdiffError
from blockdiff.sets.outcome import Outcome, changed_of, size_of
from blockdiff.sets.version import spelt

if TYPE_CHECKING:
    from blockdiff.dryrun import Plan


def summary(outcome: Outcome, *, exact: bool) -> str:
    """Return the line of the log with the numbers of a version; `exact`: in blocks and bytes."""
    whole = size_of(outcome.size, outcome.block_size, outcome.blocks)
    changed = changed_of(outcome.size, outcome.block_size, outcome.blocks, outcome.changed)
    blocks = f" ({outcome.changed} of {outcome.blocks} blocks)" if exact else ""
    return (
        f"version {outcome.version} of {text.name(outcome.name)}: {outcome.kind},"
        f" {text.amount(changed, exact)} of {text.amount(whole, exact)} changed{blocks},"
        f" {text.amount(outcome.stored, exact)} stored, {outcome.seconds:.1f} s"
    )


def put_results(names: Iterable[str], results: Iterable[Outcome | BlockdiffError]) -> None:
    """Print the result for each set as a line of JSON."""
    for name, result in zip(names, results, strict=True):
        if isinstance(result, BlockdiffError):
            text.put_json({"name": name, "error": exits.describe(result)}, line=True)
        else:
            text.put_json(result.as_json(), line=True)


def put_plan(plan: "Plan", *, as_json: bool, exact: bool) -> None:
    """Print what a run would do for one set; `exact`: sizes in bytes."""
    if as_json:
        text.put_json(plan.as_json(), line=True)
        return
    source, at = plan.source, text.name(spelt(plan.source["host"], plan.source["path"]))
    on = "" if plan.parent is None else f" on version {plan.parent}"
    click.echo(f"would write version {plan.version} of {text.name(plan.name)}: {plan.kind}{on}")
    size, block_size = text.amount(source["size"], exact), text.amount(plan.block_size, exact)
    click.echo(f"  read {at}: {source['kind']}, {size}, blocks of {block_size}")
    if plan.snapshot is None:
        click.echo("  no snapshot")
    else:
        room = plan.snapshot["size"]
        inside = " inside the lock" if plan.lock else ""
        click.echo(f"  snapshot{inside}: {'in its thin pool' if room is None else text.amount(room, exact)}")
