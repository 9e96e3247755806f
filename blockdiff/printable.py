"""Text that came from another machine, made safe for a terminal and a log."""


def printable(text: object, limit: int = 500) -> str:
    """Return text from the other side, safe for a terminal and a log line."""
    return "".join(c if c.isprintable() else "?" for c in str(text)[:limit])


def quoted(text: object) -> str:
    """Return text from the other side for a message of ours, in which it cannot pass for a hint of ours."""
    return printable(text).replace("hint:", "hint")
