"""ssh-blockdiff-dump [OPTIONS] [user@]host PATH: dump a volume of another host."""

from typing import Any

import click

from blockdiff.commands import dump, dump_arguments, options_source


@click.command(cls=dump_arguments.HostCommand)
@dump_arguments.options
@dump.stream_options
@options_source.options
@click.argument("operands", metavar="[USER@]HOST PATH", nargs=-1)
@click.pass_context
def command(context: click.Context, /, operands: tuple[str, ...], **options: Any) -> None:
    """Dump the file or block device PATH of HOST: the payload to standard output, the new digests
    to descriptor 6; with the old digests on descriptor 5, only what changed.

    HOST may be preceded by options of ssh, in one word: "-p 2222 root@db00".
    """
    context.exit(dump.execute(dump_arguments.SSH_DUMP, operands, **options))
