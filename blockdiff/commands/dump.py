"""blockdiff-dump [OPTIONS] [FILE]: dump a local volume; and what all dump commands share."""

import contextlib
import os
import sys
import tempfile
from typing import IO, Any

import click

from blockdiff import dump
from blockdiff.commands import completing, dump_arguments, exits, options_source, programs
from blockdiff.place.partfile import PartFile
from blockdiff.source import snapshots
from blockdiff.source.wanted import MUST, NONE, Wanted

_STDIN = 0


def stream_options(function: options_source.F) -> options_source.F:
    """Give a command plain options beside the original's descriptors."""
    for option in reversed(
        (
            click.option("--digests-in", metavar="FILE", type=click.Path(exists=True, dir_okay=False, readable=True),
                         help="Digest file of the version before: dump only what changed.  [default: descriptor 5,"
                         " if it is open]"),
            click.option("--digests-out", metavar="FILE", type=click.Path(dir_okay=False),
                         help="Write the new digest file here.  [default: descriptor 6]"),
            click.option("--output", metavar="FILE", type=click.Path(dir_okay=False),
                         help="Write the dump here.  [default: standard output]"),
        )
    ):  # fmt: skip
        function = option(function)
    return function


@contextlib.contextmanager
def _path_of_stdin() -> Any:
    """Yield a path under which the agent can open our standard input; a pipe is copied first."""
    with contextlib.ExitStack() as cleanup:
        number = _STDIN
        if not os.path.isfile(f"/proc/self/fd/{_STDIN}") and not _is_block(_STDIN):
            spool = cleanup.enter_context(tempfile.TemporaryFile())
            while data := os.read(_STDIN, 1024 * 1024):
                spool.write(data)
            spool.flush()
            number = spool.fileno()
        yield f"/proc/{os.getpid()}/fd/{number}"


def _is_block(number: int) -> bool:
    import stat

    return stat.S_ISBLK(os.fstat(number).st_mode)


def execute(
    program: str,
    operands: tuple[str, ...],
    *,
    suffix: str | None,
    block_size: int | None,
    digests_in: str | None,
    digests_out: str | None,
    output: str | None,
    quiesce: snapshots.Quiesce | None = None,
    snapshot_size: str | None = None,
    **reach_options: Any,
) -> int:
    """Run a dump program with its options and the streams that options or descriptors give.

    Returns the exit code.
    """
    line = dump_arguments.line(program, suffix, block_size, operands)
    reach = options_source.Reach(**reach_options)
    exits.limit(reach.max_time)
    if digests_out is None and programs.NEW_DIGESTS not in programs.inherited:
        raise click.UsageError("descriptor 6 (new digests) is not open: use 6> FILE or --digests-out FILE")
    if output is None and programs.STDOUT not in programs.inherited:
        raise click.UsageError("standard output is closed: use > FILE or --output FILE")
    if output is None and sys.stdout.isatty():
        raise click.UsageError("the dump would go to the terminal: use > FILE or --output FILE")
    with contextlib.ExitStack() as cleanup:
        parts: list[PartFile] = []

        def target(path: str | None, number: int, name: str) -> dump.Output:
            if path is None:
                return dump.Descriptor(number, name)
            part = PartFile(os.path.dirname(path) or ".", os.path.basename(path))
            cleanup.callback(part.discard)
            parts.append(part)
            return part

        old: tuple[IO[bytes], str] | None = None
        if digests_in is not None:
            old = cleanup.enter_context(open(digests_in, "rb")), digests_in
        elif programs.OLD_DIGESTS in programs.inherited:
            old = cleanup.enter_context(open(programs.OLD_DIGESTS, "rb", closefd=False)), "descriptor 5"
        path = line.path if line.path is not None else cleanup.enter_context(_path_of_stdin())
        wanted = Wanted(
            path=path if line.destination is not None else os.path.abspath(path),
            suffix=line.suffix,
            block_size=line.block_size,
            default_block_size=line.default_block_size,
            snapshot=MUST if line.program == dump_arguments.LVM_DUMP else NONE,
            snapshot_size=snapshot_size,
            live=True,
            pack_wire=line.destination is not None,
            stderr_logged=True,
            **reach.wanted(line.destination),
            verbose=bool(os.environ.get("VERBOSE")),
        )
        warnings: list[str] = []
        dump.run(
            wanted,
            reach.connect(line.destination, lambda text: click.echo(text, err=True)),
            target(output, sys.stdout.fileno(), "standard output"),
            target(digests_out, programs.NEW_DIGESTS, "descriptor 6"),
            old,
            cores=options_source.cores(),
            quiesce=quiesce,
            note=lambda text: click.echo(text, err=True),
            warn=warnings.append,
        )
        for part in parts:
            part.close()
        for part in parts:
            part.replace()
        for text in warnings:
            click.echo(f"blockdiff: warning: {text}", err=True)
        return 3 if warnings else 0


@click.command()
@dump_arguments.options
@stream_options
@options_source.options
@click.argument("operands", metavar="[FILE]", nargs=-1, shell_complete=completing.files)
@click.pass_context
def command(context: click.Context, /, operands: tuple[str, ...], **options: Any) -> None:
    """Dump FILE (or standard input) block by block: the payload to standard output, the new
    digests to descriptor 6; with the old digests on descriptor 5, only what changed."""
    context.exit(execute(dump_arguments.DUMP, operands, **options))
