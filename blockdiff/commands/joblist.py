"""LIST: what is backed up, a blockdiff-backup line for each backup, and the option --list that takes NAMEs from it.

Format: blockdiff-run(1), "The list".
"""

import io
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import click

from blockdiff.commands import completing, text
from blockdiff.errors import StoreUnreadable
from blockdiff.place import choose

STDIN = "-"
_PROBE = ["NAME", "SOURCE"]

option = click.option(
    "--list", "list_path", metavar="LIST", shell_complete=completing.files,
    help="Also the sets of this list of blockdiff-run; - is standard input.",
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One line of a list."""

    number: int  # from 1
    words: tuple[str, ...]  # after blockdiff-backup
    names: tuple[str, ...]  # of its sets
    hosts: frozenset[str]  # of its sources, in small letters


def read(path: str, options: Sequence[str] = ()) -> list[Line]:
    """Return the lines of a list, with these options before the words of each.

    Raises click.UsageError, with the line's number, if a line cannot be run, and StoreUnreadable.
    """
    from blockdiff.commands import backup

    shown = "standard input" if path == STDIN else text.name(path)
    _check_options(options)
    lines: list[Line] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(_read(path).split("\n"), 1):
        try:
            words = split(line)
            if not words:
                continue
            if os.path.basename(words[0]).replace("_", "-") == "blockdiff-backup":
                raise click.UsageError("a line begins with NAME or an option, not with the program")
            names, hosts = backup.read_line([*options, *words])
            for name in names:
                first = seen.setdefault(identity(name), number)
                if first != number or len(set(map(identity, names))) < len(names):
                    raise click.UsageError(f"the set {text.name(name)} is named twice, first in line {first}")
        except click.UsageError as error:
            raise click.UsageError(f"{shown}, line {number}: {error.format_message()}") from None
        lines.append(Line(number, (*options, *words), tuple(names), frozenset(host.lower() for host in hosts)))
    if not lines:
        raise click.UsageError(f"{shown} names no backup")
    return lines


def names(operands: Sequence[str], path: str | None) -> list[str]:
    """Return the NAMEs of operands and of a list, if one is given, each once.  Raises as `read`."""
    listed = [name for line in read(path) for name in line.names] if path is not None else []
    return list(dict.fromkeys([*operands, *listed]))


def split(line: str) -> list[str]:
    """Return the words of a line as a shell reads them; a word that begins with # begins a comment.

    Raises click.UsageError.
    """
    stream = io.StringIO(line)
    lexer = shlex.shlex(stream, posix=True)
    lexer.whitespace_split = True
    lexer.commenters = ""  # it would find a # also within a word
    words: list[str] = []
    try:
        while True:
            if line[stream.tell() :].lstrip(lexer.whitespace).startswith("#"):
                return words
            word = lexer.get_token()
            if word is None:
                break
            words.append(word)
    except ValueError as error:
        raise click.UsageError(f"cannot be split into words: {error}") from None
    if any("\0" in word for word in words):
        raise click.UsageError("a word has a NUL byte")
    return words


def _check_options(options: Sequence[str]) -> None:
    """Raise click.UsageError unless these words are options only, of blockdiff-backup."""
    from blockdiff.commands import backup

    try:
        found, _ = backup.read_line([*options, *_PROBE])
    except click.UsageError as error:
        raise click.UsageError(f"after --: {error.format_message()}") from None
    if found != _PROBE[:1]:
        raise click.UsageError("after --: only options that fit each line can be given")


def _read(path: str) -> str:
    """Return the text of a file, or of standard input.  Raises StoreUnreadable."""
    try:
        if path == STDIN:
            return os.fsdecode(sys.stdin.buffer.read())
        with open(path, "rb") as file:
            return os.fsdecode(file.read())
    except OSError as error:
        raise StoreUnreadable(text.name(path), error.strerror) from None


def identity(name: str) -> str:
    """Return what is the same for all spellings of a set's name, also if its folder is missing."""
    if choose.in_store(name):
        return choose.absolute(name)
    folder, base = os.path.split(os.path.abspath(name))
    return os.path.join(os.path.realpath(folder), base)
