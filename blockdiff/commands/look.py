"""blockdiff-look NAME [PATH...]: what is in a version, and files out of it, without a restore."""

import os
import posixpath
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from blockdiff.commands import amounts, completing, options_export, options_sign, options_store, text
from blockdiff.commands.options_store import Reading
from blockdiff.guest.answers import Data, Entry, Volume
from blockdiff.signing.allowed import AllowedSigners

_LETTERS = {"file": "-", "dir": "d", "symlink": "l", "char": "c", "block": "b", "fifo": "p", "socket": "s"}


class _Lv(click.ParamType[str]):
    """VG/LV."""

    name = "volume"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value.count("/") != 1 or value.startswith("/") or value.endswith("/"):
            self.fail(f"{value!r} is not VG/LV", param, ctx)
        return str(value)


class _Listing:
    """Takes names, and prints them unless they are wanted together."""

    def __init__(self, keep: bool) -> None:
        self.entries: list[Entry] = []
        self._keep = keep

    def put(self, entry: Entry, name: str) -> str:
        if self._keep:
            self.entries.append(entry)
            return ""
        bits = "".join(c if entry.mode >> 8 - i & 1 else "-" for i, c in enumerate("rwxrwxrwx"))
        size = text.size(entry.size) if entry.type == "file" else "-"
        target = f" -> {text.name(entry.target)}" if entry.type == "symlink" else ""
        when = text.when(_iso(entry.mtime))
        owner = f"{entry.uid}:{entry.gid}"
        click.echo(f"{_LETTERS[entry.type]}{bits}  {owner:>11}  {size:>10}  {when}  /{text.name(entry.name)}{target}")
        return ""

    def write(self, data: Data) -> None:
        raise AssertionError

    def remove(self) -> None:
        pass


@click.command()
@click.option("--to", "number", type=click.IntRange(min=1), metavar="N", help="Look at version N, not the newest.")
@click.option("--part", type=click.IntRange(min=1), metavar="N", help="The file system in partition N.")
@click.option("--lv", type=_Lv(), metavar="VG/LV", help="The file system in a logical volume.")
@click.option("--get", "dest", metavar="FOLDER", shell_complete=completing.files,
              help="Write each PATH, with all that is in it, into FOLDER.")  # fmt: skip
@click.option("--tar", "as_tar", is_flag=True, help="Write a tar archive to standard output.")
@click.option("--as-is", is_flag=True, help="Do not replay a journal; what is only there is missing.")
@options_store.options
@options_export.cache_option
@options_export.scratch_option
@options_sign.signers_option
@click.option("--timeout", type=amounts.Seconds(86400), default="5m", show_default=True, metavar="TIME",
              help="Give up if the guest sends nothing for so long.")  # fmt: skip
@text.json_option
@click.argument("name", metavar="NAME", shell_complete=completing.sets)
@click.argument("paths", metavar="[PATH...]", nargs=-1)
@click.pass_context
def command(
    context: click.Context,
    number: int | None,
    part: int | None,
    lv: str | None,
    dest: str | None,
    as_tar: bool,
    as_is: bool,
    reading: Reading,
    cache: int,
    scratch: str | None,
    signers: AllowedSigners | None,
    timeout: float,
    as_json: bool,
    name: str,
    paths: tuple[str, ...],
) -> None:
    """Look into version N (the newest) of set NAME: what its partitions hold, and its files.

    Without a PATH: a table of partitions and logical volumes.  With one: what is there, or with --get or
    --tar all that is in it.  A Linux kernel in user mode reads the file systems, without root; a journal is
    replayed on a copy that is discarded, and the set is never written.
    """
    from blockdiff import look

    if part is not None and lv is not None:
        raise click.UsageError("--part and --lv exclude each other")
    if as_tar and (dest is not None or as_json):
        raise click.UsageError("--tar excludes --get and --json")
    if as_tar and sys.stdout.isatty():
        raise click.UsageError("--tar writes to standard output, which is a terminal")
    listing = dest is None and not as_tar
    given = tuple(look.absolute(path) for path in paths)
    if not given and not (listing and part is None and lv is None):
        given = ("/",)
    names = [posixpath.basename(path) for path in given]
    if dest is not None and (len({*names}) < len(names) or ("" in names and len(names) > 1)):
        raise click.UsageError("two of the PATHs would have the same name in FOLDER")
    wanted = look.Wanted(
        part=part, lv=lv, paths=given, listing=listing, parents=dest is None, as_is=as_is, timeout_s=timeout
    )
    folder = scratch or tempfile.gettempdir()
    with _exported(name, number, reading, cache, folder, signers) as (version, image):
        listed = _Listing(as_json)
        with _sink(listed, dest, as_tar, os.path.getsize(image)) as sink:
            found = look.look(image, (version, text.name(name)), wanted, sink, os.environ, folder)
    for line in found.warnings:
        text.warn(line)
    if as_json:
        text.put_json(_json(version, found, listed.entries))
    elif not given:
        click.echo(_table(found.parts))
    elif dest is not None:
        for each in found.got:
            path = os.path.join(dest, posixpath.basename(each.path))
            click.echo(f"{text.name(path)}: {_count(each.files)}, {text.size(each.bytes)}")
    context.exit(3 if found.warnings else 0)


@contextmanager
def _exported(
    name: str, number: int | None, reading: Reading, cache: int, scratch: str, signers: AllowedSigners | None
) -> Iterator[tuple[int, str]]:
    """Give the version, and a file that has its bytes."""
    from blockdiff import nbd

    wanted = nbd.Wanted(
        number=number, cache=cache, file="", scratch=scratch, access=reading.access([name]),
        identity_files=reading.paths, signers=signers,
    )  # fmt: skip
    with nbd.exporting(name, wanted, os.environ, options_export.runtime(), sys.stderr.fileno()) as export:
        assert export.file is not None
        for line in export.served.warnings:
            text.warn(line)
        yield export.served.version, export.file


@contextmanager
def _sink(listing: _Listing, dest: str | None, as_tar: bool, size: int) -> Iterator[Any]:
    """Give what takes the files."""
    from blockdiff import look
    from blockdiff.guest.archive import Archive
    from blockdiff.guest.folder import Folder

    if as_tar:
        archive = Archive(sys.stdout.buffer, look.most(size))
        yield archive
        archive.close()  # an archive without its end is seen to be cut
    elif dest is not None:
        with Folder(dest) as folder:
            yield folder
    else:
        yield listing


def _table(parts: list[Volume]) -> str:
    rows = [("part", "type", "size", "holds")]
    for part in parts:
        groups: dict[str, list[str]] = {}
        for volume in part.holds:
            groups.setdefault(volume.vg, []).append(f"{volume.lv} ({volume.type or 'unknown'})")
        holds = "; ".join(f"{group}: {', '.join(volumes)}" for group, volumes in groups.items())
        holds = holds or (f"label {part.label}" if part.label else "")
        kind = "lvm2" if part.type == "LVM2_member" else part.type or "unknown"
        number = "-" if part.part is None else str(part.part)
        rows.append((number, text.name(kind), text.size(part.size), text.name(holds)))
    return text.table(rows)


def _json(version: int, found: Any, entries: list[Entry]) -> dict[str, Any]:
    return {
        "version": version,
        "parts": [_volume(each) for each in found.parts],
        "place": found.place or None,
        "type": found.type or None,
        "clean": found.clean,
        "entries": [_entry(each) for each in entries],
        "got": [{"path": each.path, "files": each.files, "bytes": each.bytes} for each in found.got],
        "warnings": found.warnings,
    }


def _volume(volume: Volume) -> dict[str, Any]:
    return {
        "part": volume.part,
        "lv": f"{volume.vg}/{volume.lv}" if volume.lv else None,
        "type": volume.type or None,
        "label": volume.label or None,
        "size": volume.size,
        "holds": [_volume(each) for each in volume.holds],
    }


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "path": f"/{entry.name}",
        "type": entry.type,
        "mode": f"{entry.mode:04o}",
        "uid": entry.uid,
        "gid": entry.gid,
        "size": entry.size,
        "mtime": _iso(entry.mtime),
        "target": entry.target or None,
    }


def _iso(nanoseconds: int) -> str:
    import datetime

    try:
        time = datetime.datetime.fromtimestamp(nanoseconds // 10**9, datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return "-"
    return time.isoformat().replace("+00:00", "Z")


def _count(number: int) -> str:
    return f"{number} file" if number == 1 else f"{number} files"
