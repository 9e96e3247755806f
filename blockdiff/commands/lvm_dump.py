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
    context: click.Context, /, operands: tuple[str, ...], lock: str | None, snapshot_size: str | None, **options: Any
) -> None:
    """Dump the logical volume of HOST from a snapshot: the payload to standard output, the new
    digests to descriptor 6; with the old digests on descriptor 5, only what changed."""
    quiet, size = locking.quiet(lock), locking.snapshot_size(snapshot_size)
    context.exit(dump.execute(dumpline.LVM_DUMP, operands, quiet=quiet, snapshot_size=size, **options))
