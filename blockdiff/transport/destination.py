"""Where a volume is: parse what the user typed. Pure; nothing is looked up.

A source is written `[user@]host:/path`, with an IPv6 address in brackets, or as a local path.
The host argument of the original commands is a list of words for `ssh`: `-p 2222 root@db00`.
"""

import re
from dataclasses import dataclass

_REMOTE = re.compile(r"(?P<login>(?:[^@/:\[\]]+@)?(?:\[[^\[\]/]+\]|[^/:\[\]]+)):(?P<path>.*)", re.DOTALL)
_LOGIN = re.compile(r"(?:(?P<user>.+)@)?(?P<host>[^@]+)", re.DOTALL)
_HOP = re.compile(r"(?:ssh://)?(?P<login>(?:[^@]+@)?(?:\[[^\]]+\]|[^:\[\]]+))(?::(?P<port>\d+))?/?")
_UNSAFE = re.compile(r"[\x00-\x20\x7f'\"`$\\;&<>|(){}*?!,/]")

_WITH_VALUE = frozenset("BbcDEeFIiJLlmoPpRSw")
_WITHOUT_VALUE = frozenset("1246aACgKkMqvXxYyT")


@dataclass(frozen=True)
class Destination:
    """A host, the user to log in as, and options that only the `ssh` program understands."""

    host: str  # a name, an alias of ssh's configuration, or an address without brackets
    user: str | None = None
    options: tuple[str, ...] = ()  # words for the `ssh` program

    def __post_init__(self) -> None:
        for word in (self.host, self.user):
            if word is not None and (not word or word.startswith("-") or _UNSAFE.search(word)):
                raise ValueError(f"not a host or user: {word!r}")

    def __str__(self) -> str:
        """Return it as `ssh` takes it."""
        return self.host if self.user is None else f"{self.user}@{self.host}"


def parse_source(text: str) -> tuple[Destination | None, str]:
    """Return where a source is and its path there; None for this machine.

    Raises ValueError if it looks remote and is not complete.
    """
    colon, slash = text.find(":"), text.find("/")
    if not text:
        raise ValueError("an empty source")
    if text.startswith("s3://"):
        raise ValueError(f"an object store has no volumes: {text!r}")
    match = _REMOTE.fullmatch(text)
    if match is None:
        if colon != -1 and (slash == -1 or colon < slash):
            raise ValueError(f"not [user@]host:/path: {text!r}")
        return None, text
    if not match["path"]:
        raise ValueError(f"no path after the host: {text!r}")
    return parse_login(match["login"]), match["path"]


def parse_login(text: str) -> Destination:
    """Parse `[user@]host`. Raises ValueError if it is not that."""
    match = _LOGIN.fullmatch(text)
    if match is None:
        raise ValueError(f"not [user@]host: {text!r}")
    host = match["host"]
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    return Destination(host, match["user"])


def parse_hop(text: str) -> tuple[str | None, str, int | None]:
    """Return user, host and port of a jump host, `[user@]host[:port]` or an ssh:// URI of it.

    Raises ValueError if it is not that.
    """
    match = _HOP.fullmatch(text)
    if match is None:
        raise ValueError(f"not [user@]host[:port]: {text!r}")
    login = parse_login(match["login"])
    return login.user, login.host, int(match["port"]) if match["port"] else None


def parse_host_argument(text: str) -> Destination:
    """Parse the original's host argument: a host and options of `ssh` in any order.

    It is split at blanks, also inside quotes, as a shell splits an unquoted variable.
    Raises ValueError for options that would replace the command or its streams.
    """
    words = text.split()
    options: list[str] = []
    login = None
    while words:
        word = words.pop(0)
        if word == "--" and words and login is None:
            word = words.pop(0)
        elif word.startswith("-") and len(word) > 1:
            options += [word, *_value(word, words)]
            continue
        if login is not None:
            raise ValueError(f"more than a host and options of ssh: {text!r}")
        login = word
    if login is None:
        raise ValueError(f"no host in {text!r}")
    plain = parse_login(login)
    return Destination(plain.host, plain.user, tuple(options))


def _value(word: str, words: list[str]) -> list[str]:
    """Return the value of the last option in a group such as -xvp; it is taken from words unless attached."""
    for position, letter in enumerate(word[1:], 2):
        if letter in _WITH_VALUE:
            if position < len(word):
                return []
            if not words:
                raise ValueError(f"ssh option -{letter} lacks its value")
            return [words.pop(0)]
        if letter not in _WITHOUT_VALUE:
            raise ValueError(f"ssh option -{letter} cannot be used here")
    return []
