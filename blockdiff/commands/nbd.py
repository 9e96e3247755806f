"""blockdiff-nbd NAME [-- COMMAND]: a version as a disk that other programs read, without a restore."""

import os
import signal
import sys
import tempfile

import click

from blockdiff.commands import completing, options_export, options_sign, options_store, text
from blockdiff.commands.options_store import Reading
from blockdiff.errors import Interrupted
from blockdiff.signing.allowed import AllowedSigners

_ENDS = (128 + signal.SIGINT, 128 + signal.SIGTERM)  # exit codes of signals that end it as it should


class _Command(click.Command):
    """A command whose words after `--` are another command's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        place = args.index("--") if "--" in args else len(args)
        ctx.obj = args[place + 1 :]
        if place < len(args) and not ctx.obj:
            raise click.UsageError("no COMMAND after --", ctx)
        return super().parse_args(ctx, args[:place])


@click.command(cls=_Command, options_metavar="[OPTIONS]")
@click.option("--to", "number", type=click.IntRange(min=1), metavar="N", help="Export version N, not the newest.")
@click.option("--socket", metavar="PATH", shell_complete=completing.files,
              help="The path of the Unix socket.  [default: in a new folder]")  # fmt: skip
@click.option("--writable", is_flag=True, help="Let clients write; what they write is discarded at the end.")
@click.option("--clone", metavar="FILE", shell_complete=completing.files,
              help="Let clients write; what they write is kept in FILE, a qcow2 file.")  # fmt: skip
@click.option("--file", metavar="FOLDER", shell_complete=completing.files,
              help="Mount it, too, as the file FOLDER/disk, for programs that do not speak NBD.")  # fmt: skip
@options_store.options
@options_export.cache_option
@options_export.scratch_option
@options_sign.signers_option
@click.option("--once", is_flag=True, help="End when the last client has left.")
@click.argument("name", metavar="NAME [-- COMMAND]", shell_complete=completing.sets)
@click.pass_context
def command(
    context: click.Context,
    number: int | None,
    socket: str | None,
    writable: bool,
    clone: str | None,
    file: str | None,
    reading: Reading,
    cache: int,
    scratch: str | None,
    signers: AllowedSigners | None,
    once: bool,
    name: str,
) -> None:
    """Export version N (the newest) of set NAME as a disk, over NBD on a Unix socket.

    With COMMAND: until COMMAND ends, which finds the URI in BLOCKDIFF_URI, and with --file the path in
    BLOCKDIFF_FILE.  Without: until TERM or INT.
    Each block is proved before a client gets it; the set is never written.
    """
    from blockdiff import nbd

    words: list[str] = context.obj
    if once and words:
        raise click.UsageError("--once is for an export without COMMAND, which ends with COMMAND")
    if writable and clone is not None:
        raise click.UsageError("--writable discards what is written and --clone keeps it: give one of them")
    wanted = nbd.Wanted(
        number=number, cache=cache, socket=socket, writable=writable, clone=clone, once=once, file=file,
        scratch=scratch or tempfile.gettempdir(), access=reading.access([name]), identity_files=reading.paths,
        signers=signers,
    )  # fmt: skip
    ready = False
    try:
        with nbd.exporting(name, wanted, os.environ, options_export.runtime(), sys.stderr.fileno()) as export:
            for line in export.served.warnings:
                text.warn(line)
            if words:
                context.exit(export.run(words, os.environ))
            served = export.served
            begun = f", {served.begun}" if served.begun else ""
            kind = "writable, discarded at the end" if writable else "read-only"
            kind = kind if clone is None else f"writable, kept in {text.name(clone)}"
            click.echo(f"version {served.version} of {text.name(name)}{begun}, {text.size(served.size)}, {kind}")
            ready = True
            click.echo(export.uri)
            if export.file is not None:
                click.echo(text.name(export.file))
            export.wait()
    except Interrupted as error:
        if not ready or error.exit_code not in _ENDS:
            raise
