"""ssh-lvm-dump [OPTIONS] [user@]host /dev/vg/lv: dump a logical volume of another host."""

from typing import Any

import click

from blockdiff.commands import dump, dump_arguments, options_lock, options_source


@click.command(cls=dump_arguments.HostCommand)
@dump_arguments.options
@dump.stream_options
@options_lock.options
@options_source.options
@click.argument("operands", metavar="[USER@]HOST /DEV/VG/LV", nargs=-1)
@click.pass_context
def command(
    context: click.Context, /, operands: tuple[str, ...], lock: str | None, snapshot_size: str | None, **options: Any
) -> None:
    """Dump the logical volume of HOST from a snapshot: the payload to standard output, the new
    digests to descriptor 6; with the old digests on descriptor 5, only what changed."""
    quiet, size = options_lock.quiesce(lock), options_lock.snapshot_size(snapshot_size)
    context.exit(dump.execute(dump_arguments.LVM_DUMP, operands, quiet=quiet, snapshot_size=size, **options))
