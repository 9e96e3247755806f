"""How numbers, names and ranges are written for people."""

import datetime
import json
import os
from collections.abc import Iterable, Sequence
from typing import Any

import click

from blockdiff.printable import name as name
from blockdiff.printable import size as size

_json_owed = False  # --json was given, and no object has been printed yet


def amount(count: int, exact: bool) -> str:
    """Return a number of bytes as people read it, or exactly."""
    return f"{count} bytes" if exact else size(count)


def when(time: str) -> str:
    """Return an ISO 8601 time in the local zone, with the zone's name; text that is no time stays as it is."""
    try:
        return datetime.datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
    except (ValueError, OverflowError):
        return name(time)


def utc(seconds: float | None) -> str | None:
    """Return seconds since 1970 as ISO 8601 in UTC, for JSON; None stays None."""
    if seconds is None:
        return None
    return datetime.datetime.fromtimestamp(int(seconds), datetime.UTC).isoformat().replace("+00:00", "Z")


def _label(path: str) -> str:
    """Return a file name as the value of a label of Prometheus."""
    shown = os.fsencode(path).decode("utf-8", "backslashreplace")
    return shown.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def gauge(metric: str, what: str, values: Iterable[tuple[str, str]]) -> list[str]:
    """Return the lines of a gauge for Prometheus, with a value for each of these sets."""
    lines = [f"# HELP blockdiff_{metric} {what}", f"# TYPE blockdiff_{metric} gauge"]
    return lines + [f'blockdiff_{metric}{{set="{_label(set_name)}"}} {value}' for set_name, value in values]


def numbers(some: Iterable[int]) -> str:
    """Return numbers with neighbours joined, such as 1-3, 5."""
    runs: list[list[int]] = []
    for number in sorted(some):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def ranges(some: Sequence[tuple[int, int]], more: bool, most: int = 10) -> str:
    """Return ranges of bytes, their ends included, such as 0-4095, 8192-12287."""
    text = ", ".join(f"{start}-{end - 1}" for start, end in some[:most])
    return text + (", ..." if more or len(some) > most else "")


def table(rows: Sequence[Sequence[str]], right: frozenset[int] = frozenset()) -> str:
    """Return rows in columns; those in `right` are aligned at their right end."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]

    def line(row: Sequence[str]) -> str:
        cells = zip(row, widths, strict=True)
        aligned = (c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(cells))
        return "  ".join(aligned).rstrip()

    return "\n".join(map(line, rows))


def _owe_json(context: click.Context, parameter: click.Parameter, value: bool) -> bool:
    global _json_owed
    _json_owed = _json_owed or value  # a line of a list may be parsed in between
    return value


# eager: known before any other option or operand can be refused
json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    is_eager=True,
    callback=_owe_json,
    help="Print the result as one JSON object.",
)


def json_owed() -> bool:
    """Return whether --json was given and its object has not been printed yet."""
    return _json_owed


def put_json(value: Any, *, line: bool = False) -> None:
    """Print one JSON object, in one line if there may be several."""
    global _json_owed
    _json_owed = False
    click.echo(json.dumps(value, indent=None if line else 1, sort_keys=True))


def warn(line: str) -> None:
    """Print a warning on stderr."""
    click.echo(f"blockdiff: warning: {line}", err=True)
