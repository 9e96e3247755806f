"""Text that came from another machine, made safe for a terminal and a log."""

from collections.abc import Callable

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
