"""blockdiff-report NAME|FOLDER...: a page about sets, for a browser."""

import datetime
import functools
import os
import sys
from typing import TYPE_CHECKING

import click

from blockdiff.commands import amounts, completing, joblist, options_store, outfile, setnames, state, text
from blockdiff.commands.options_store import Reading
from blockdiff.errors import ProgramUnfit
from blockdiff.place.partfile import write_failed
from blockdiff.sets import catalogue
from blockdiff.sets.health import Limits

if TYPE_CHECKING:
    from blockdiff.sets.checked import Checked

_ROOM_S = 7 * 86400.0  # as blockdiff-check asks for by default


@click.command()
@click.argument("operands", metavar="NAME|FOLDER...", nargs=-1, shell_complete=completing.sets)
@click.option("-o", "--output", metavar="FILE", shell_complete=completing.files,
              help="Replace FILE by the page, whole.  [default: standard output]")  # fmt: skip
@click.option("--title", default="Backups", show_default=True, metavar="TEXT", help="The title of the page.")
@click.option("--maps", type=click.IntRange(0, 1000), default=30, show_default=True, metavar="N",
              help="Show what changed where in the N newest versions of a set; 0: read no digest file.")  # fmt: skip
@options_store.options_now
@joblist.option
@amounts.jobs_option
def command(
    operands: tuple[str, ...],
    output: str | None,
    title: str,
    maps: int,
    reading: Reading,
    list_path: str | None,
    jobs: int | None,
) -> None:
    """Write an HTML page about set NAME, or all sets in FOLDER: how each is, and charts of each.

    The page is one file, with nothing that executes and nothing that is fetched.
    """
    try:
        from blockdiff import check, report
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("jinja2", "markupsafe"):
            raise
        hint = "pip install 'blockdiff[report]'"
        raise ProgramUnfit("the Python library jinja2", "it is not installed", hint=hint) from None

    names = setnames.given(operands, list_path)
    now = datetime.datetime.now().astimezone()
    page = report.report(
        names,
        functools.partial(_look, now=now),
        functools.partial(check.judge, room_s=_ROOM_S),
        title=title,
        now=now,
        maps=maps,
        jobs=jobs or len(os.sched_getaffinity(0)),
        access=reading.access(names),
    )
    if output is None:
        sys.stdout.buffer.write(page.encode())
        return
    try:
        outfile.replace(output, page)
    except OSError as error:
        raise write_failed(error, text.name(output)) from None


def _look(found: catalogue.Found, now: datetime.datetime) -> "Checked":
    from blockdiff import check

    return check.one(found, state.notes(found.name), Limits(), now, drilled=state.drills_path)
