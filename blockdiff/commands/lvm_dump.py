"""ssh-lvm-dump [OPTIONS] [user@]host /dev/vg/lv: dump a logical volume of another host."""

from typing import Any

import click

from blockdiff.commands import dump, dumpline, locking, reaching


@click.command(cls=dumpline.HostCommand)
@dumpline.options
@dump.stream_options
@locking.options
@reaching.options
@click.argument("operands", metavar="[USER@]HOST /DEV/VG/LV", nargs=-1)
@click.pass_context
def command(
    context: click.Context,
    /,
    suffix: str | None,
    block_size: int | None,
    digests_in: str | None,
    digests_out: str | None,
    output: str | None,
    snapshot_size: str | None,
    lock: str | None,
    operands: tuple[str, ...],
    **reach: Any,
) -> None:
    """Dump the logical volume of HOST from a snapshot: the payload to standard output, the new
    digests to descriptor 6; with the old digests on descriptor 5, only what changed."""
    line = dumpline.line(dumpline.LVM_DUMP, suffix, block_size, operands)
    context.exit(
        dump.execute(
            line,
            reaching.Reach(**reach),
            digests_in,
            digests_out,
            output,
            quiet=locking.quiet(lock),
            snapshot_size=locking.snapshot_size(snapshot_size),
        )
    )
