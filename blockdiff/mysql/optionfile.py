"""MySQL's option files: /etc/my.cnf, ~/.my.cnf and what they include.

The rules are those of MySQL's client (its manual, "Using Option Files"): a later value
replaces an earlier one, `_` in a name means `-`, `#` outside of quotes begins a comment, a file
that everybody may write to is not read.
"""

import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

GROUPS = ("client", "client-server", "client-mariadb", "mysqllock")
MAX_DEPTH = 10  # files that include each other
_ESCAPES = {"b": "\b", "t": "\t", "n": "\n", "r": "\r", "\\": "\\", "s": " ", '"': '"', "'": "'"}


@dataclass
class Options:
    """The contents of option files: name -> value, "" for a name without a value."""

    values: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def read(paths: Iterable[Path], groups: Iterable[str] = GROUPS) -> Options:
    """Return the options of these groups; a missing file is skipped.

    Raises OSError if a file exists and cannot be read.
    """
    options = Options()
    wanted = frozenset(groups)
    for path in paths:
        _read_file(path, wanted, options, 0)
    return options


def _read_file(path: Path, wanted: frozenset[str], options: Options, depth: int) -> None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISREG(mode) and mode & stat.S_IWOTH:
        options.warnings.append(f"{path} is ignored: everybody may write to it")
        return
    if depth > MAX_DEPTH:
        options.warnings.append(f"{path} is ignored: too many files include each other")
        return
    group = ""
    for line in path.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        text = line.strip()
        if text.startswith("!includedir"):
            folder = path.parent / text.removeprefix("!includedir").strip()
            for included in sorted(folder.glob("*.cnf")):
                _read_file(included, wanted, options, depth + 1)
        elif text.startswith("!include"):
            _read_file(path.parent / text.removeprefix("!include").strip(), wanted, options, depth + 1)
        elif text.startswith("["):
            group = text[1:].partition("]")[0].strip()
        elif text and text[0] not in "#;" and group in wanted:
            name, _, value = _without_comment(text).partition("=")
            options.values[name.strip().replace("_", "-")] = _value(value.strip())


def _without_comment(line: str) -> str:
    """Return a line up to the first # outside of quotes."""
    quote = ""
    escaped = False
    for position, letter in enumerate(line):
        if letter in "'\"" and not escaped and quote in ("", letter):
            quote = "" if quote else letter
        elif letter == "#" and not quote:
            return line[:position]
        escaped = bool(quote) and letter == "\\" and not escaped
    return line


def _value(text: str) -> str:
    """Return a value without its quotes, its escapes replaced."""
    if len(text) >= 2 and text[0] in "'\"" and text[-1] == text[0]:
        text = text[1:-1]
    letters = []
    rest = iter(text)
    for letter in rest:
        if letter == "\\":
            following = next(rest, "")
            letters.append(_ESCAPES.get(following, letter + following))
        else:
            letters.append(letter)
    return "".join(letters)
