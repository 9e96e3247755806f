"""blockdiff-drill NAME: prove that a version works, by using it on a clone that is thrown away."""

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import click

from blockdiff.commands import (
    amounts,
    completing,
    exits,
    options_export,
    options_sign,
    options_store,
    outfile,
    state,
    text,
)
from blockdiff.commands.options_store import Reading
from blockdiff.place.partfile import write_failed
from blockdiff.sets import drills
from blockdiff.signing.allowed import AllowedSigners

_MOST = 1000  # characters of a step's text that are kept
_STEPS = 100  # that are kept


class _Regex(click.ParamType[str]):
    """A regular expression of Python."""

    name = "regex"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            re.compile(value)
        except re.error as error:
            self.fail(f"{value!r} is no regular expression: {error}", param, ctx)
        return str(value)


@click.command()
@click.argument("name", shell_complete=completing.sets)
@click.option("--to", "number", type=click.IntRange(min=1), metavar="N", help="Drill version N, not the newest.")
@click.option("--mariadb", metavar="PATH", help="Start MariaDB or MySQL with the data in this folder of the volume.")
@click.option("--postgres", metavar="PATH", help="Start PostgreSQL with the data in this folder of the volume.")
@click.option("--fsck", is_flag=True, help="Check the file system; every drill does this first.")
@click.option("--run", "command_", metavar="COMMAND", help="Run a shell command in the mounted file system.")
@click.option("--boot", type=_Regex(), metavar="REGEX", help="Boot a machine until its serial console has a match.")
@click.option("--memory", type=amounts.Bytes(16 << 20, 1 << 40), default="1G", show_default=True, metavar="SIZE",
              help="Memory of the machine of --boot.")  # fmt: skip
@click.option("--query", "queries", multiple=True, metavar="SQL", help="Ask the server; may be given several times.")
@click.option("--expect", type=_Regex(), metavar="REGEX", help="Each answer must have a match of it.")
@click.option("--check", is_flag=True, help="Check all tables.")
@click.option("--database", default="", metavar="NAME", help="The database of the queries.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A setting of the server.")
@click.option("--part", type=click.IntRange(min=1), metavar="N", help="The file system is in this partition.")
@click.option("--lv", metavar="VG/LV", help="The file system is in this logical volume.")
@click.option("--limit", type=amounts.Seconds(30 * 86400), default="15m", show_default=True, metavar="TIME",
              help="The drill fails if it takes longer.")  # fmt: skip
@click.option("--keep", type=click.IntRange(1, 100_000), default=400, show_default=True, metavar="N",
              help="Keep the results of so many drills in NAME.drills.")  # fmt: skip
@click.option("--metrics", metavar="FILE", shell_complete=completing.files,
              help="Write FILE for the textfile collector of node_exporter.")  # fmt: skip
@options_export.cache_option
@options_export.scratch_option
@options_store.options
@options_sign.signers_option
@text.json_option
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but warnings and errors.")
@click.pass_context
def command(
    context: click.Context,
    name: str,
    number: int | None,
    mariadb: str | None,
    postgres: str | None,
    fsck: bool,
    command_: str | None,
    boot: str | None,
    memory: int,
    queries: tuple[str, ...],
    expect: str | None,
    check: bool,
    database: str,
    settings: tuple[str, ...],
    part: int | None,
    lv: str | None,
    limit: float,
    keep: int,
    metrics: str | None,
    cache: int,
    scratch: str | None,
    reading: Reading,
    signers: AllowedSigners | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Prove that the newest version of set NAME works: check its file system, start its database.

    Nothing is copied and nothing is written to the set.  It works on a clone, in name spaces of its own, as
    the user that the data belongs to; a server reaches nobody.  The result is kept in NAME.drills,
    unless it is of the past.
    """
    from blockdiff import drill
    from blockdiff.sets.backupset import BackupSet

    server = "mariadb" if mariadb is not None else "postgres" if postgres is not None else ""
    if mariadb is not None and postgres is not None:
        raise click.UsageError("--mariadb and --postgres cannot be used together")
    if not server and not fsck and command_ is None and boot is None:
        raise click.UsageError("nothing to do: give --mariadb, --postgres, --run, --boot or --fsck")
    if boot is not None and (server or fsck or command_ is not None or part is not None or lv is not None):
        raise click.UsageError("--boot uses the whole volume and cannot be used with the others")
    if not server and (queries or settings or database or check):
        raise click.UsageError("--query, --check, --database and --set are for --mariadb or --postgres")
    if part is not None and lv is not None:
        raise click.UsageError("--part and --lv exclude each other")
    if lv is not None and not re.fullmatch(r"[^/]+/[^/]+", lv):
        raise click.UsageError("--lv takes VG/LV")
    if expect is not None and not queries:
        raise click.UsageError("--expect is for --query")
    if reading.as_of is not None and metrics is not None:
        raise click.UsageError("--metrics is about the set as it is and cannot be used with --as-of")
    folder = scratch or tempfile.gettempdir()
    wanted = drill.Wanted(
        server=server, path=mariadb or postgres or "", settings=settings, database=database, queries=queries,
        expect=expect, check=check, run=command_,
        boot=boot, memory=memory >> 20, part=part, lv=lv, scratch=folder, limit_s=limit,
    )  # fmt: skip
    backup_set = BackupSet(name, reading.access([name]), signers)
    loud = not quiet and not as_json

    def show(step: Any) -> None:
        if loud:
            click.echo(f"  {step.name:<9} {step.seconds:.1f} s  {text.name(step.text)}".rstrip())

    def begin(version: int, taken: str) -> None:
        if loud:
            when = f" ({text.when(taken)})" if taken else ""
            click.echo(f"drill of version {version} of {text.name(name)}{when}")

    clone = _cloning(name, cache, folder, None if boot is not None else "", reading, signers)
    done = drill.drill(backup_set, number, wanted, clone, os.environ, begin, show)
    warnings = []
    try:
        if reading.as_of is None:  # what is kept is about the set as it is
            state.add_drill(name, _kept(done), keep)
    except OSError as error:
        warnings.append(f"{text.name(state.drills_path(name))}: {error.strerror}: the result is not kept")
    if metrics is not None:
        try:
            outfile.replace(metrics, _metrics(done))
        except OSError as error:
            raise write_failed(error, text.name(metrics)) from None
    if as_json:
        text.put_json({**_kept(done), "warnings": warnings})
    elif done.failure is None and not quiet:
        click.echo(_last(done))
    for line in warnings:
        text.warn(line)
    if done.failure is not None:
        context.exit(exits.report(done.failure))
    context.exit(3 if warnings else 0)


def _cloning(
    name: str, cache: int, scratch: str, file: str | None, reading: Reading, signers: AllowedSigners | None
) -> Any:
    """Return what makes a clone of a version: an export of it that can be written; `file`: see nbd.Wanted."""
    from blockdiff import drill, nbd

    @contextlib.contextmanager
    def clone(version: int) -> Iterator[Any]:
        wanted = nbd.Wanted(
            number=version, cache=cache, writable=True, scratch=scratch, file=file,
            access=reading.access([name]), identity_files=reading.paths, signers=signers,
        )  # fmt: skip
        with nbd.exporting(name, wanted, os.environ, options_export.runtime(), sys.stderr.fileno()) as export:
            yield drill.Clone(export.uri, export.file, lambda: export.served.read)

    return clone


def _last(done: Any) -> str:
    whole = "" if done.size is None else f" of {text.size(done.size)}"
    read = "" if done.read is None else f"; read {text.size(done.read)}{whole}"
    return f"passed in {done.seconds:.1f} s{read}"


def _kept(done: Any) -> dict[str, Any]:
    """Return a line of NAME.drills."""
    return {
        "format": drills.FORMAT,
        "set": done.name,
        "version": done.version,
        "md5_sha256": done.md5_sha256,
        "taken": done.taken or None,
        "begun": text.utc(done.begun),
        "seconds": round(done.seconds, 3),
        "read": done.read,
        "outcome": "passed" if done.failure is None else "failed",
        "why": done.why[:_MOST],
        "steps": [
            {"step": step.name, "seconds": round(step.seconds, 3), "text": step.text[:_MOST]}
            for step in done.steps[:_STEPS]
        ],
    }


def _metrics(done: Any) -> str:
    gauges = (
        ("success", "whether the newest drill passed", int(done.failure is None)),
        ("timestamp_seconds", "when it began", done.begun),
        ("duration_seconds", "how long it took", round(done.seconds, 3)),
        ("version", "of which version", done.version),
    )
    lines = []
    for name, what, value in gauges:
        lines += text.gauge(f"drill_{name}", what, [(done.name, str(value))])
    return "\n".join(lines) + "\n"
