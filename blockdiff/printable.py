"""Text that came from another machine, made safe for a terminal and a log; sizes as people read them."""

import os
from collections.abc import Callable

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")

Log = Callable[[str], None]  # takes one line that is safe to print


def printable(text: object, limit: int = 500) -> str:
    """Return text from another machine, cut at `limit`, with "?" for what could control a terminal."""
    return "".join(c if c.isprintable() else "?" for c in str(text)[:limit])


def quoted(text: object) -> str:
    """Return text from another machine for a message of ours, so that it cannot look like our hint."""
    return printable(text).replace("hint:", "hint")


def visible(text: str) -> str:
    """Return text of any length without the characters that could control a terminal; a tab becomes a blank."""
    return "".join(character for character in text.replace("\t", " ") if character.isprintable())


def name(path: str) -> str:
    """Return a file name that is safe to print: bytes that are not text, or control a terminal, are escaped."""
    try:
        decoded = os.fsencode(path).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # no file can have it, but a manifest can
        decoded = path
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in decoded)


def size(count: int) -> str:
    """Return a number of bytes as people read it, such as 1.5 GiB."""
    amount = float(count)
    for unit in _UNITS:
        if round(amount, 1) < 1024 or unit == _UNITS[-1]:
            return f"{count} bytes" if unit == _UNITS[0] else f"{amount:.1f} {unit}"
        amount /= 1024
    raise AssertionError
