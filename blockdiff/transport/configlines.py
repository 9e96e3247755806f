"""One line of an ssh_config file, parsed as ssh does it. Pure, except for the names of services."""

import re
import socket

_KEYWORD = re.compile(r'\s*"?([^\s="]+)"?(?:\s*=\s*|\s+|$)(.*)', re.DOTALL)
_REST = frozenset(("knownhostscommand", "localcommand", "proxycommand", "remotecommand"))  # no words, no comment
_SINGLE = frozenset((  # one argument
    "addressfamily", "bindaddress", "bindinterface", "ciphers", "connecttimeout", "gssapiauthentication",
    "hostkeyalgorithms", "hostkeyalias", "hostname", "identitiesonly", "identityagent", "identityfile",
    "kexalgorithms", "macs", "port", "preferredauthentications", "pubkeyacceptedalgorithms", "pubkeyauthentication",
    "requiredrsasize", "revokedhostkeys", "serveraliveinterval", "user",
))  # fmt: skip
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_ALIASES = {"pubkeyacceptedkeytypes": "pubkeyacceptedalgorithms", "identityfile2": "identityfile"}


def keyword(text: str) -> str:
    """Return a keyword in lower case; an old name is replaced by its current one."""
    return _ALIASES.get(text.lower(), text.lower())


def parse(line: str) -> tuple[str, list[str]] | None:
    """Return the keyword of a line and its arguments as `ssh -G` shows them, None for an empty line or a comment.

    Raises ValueError for what ssh refuses.
    """
    match = _KEYWORD.match(line.rstrip())
    if match is None or match[1].startswith("#"):
        return None
    name = keyword(match[1])
    if name in _REST:
        found = [match[2].lstrip(" \t=")]
    elif name == "proxyjump":
        found = match[2].split()[:1]
    else:
        found = _words(match[2])
    if not found or not found[0]:
        raise ValueError(f"no argument after {match[1]}")
    if len(found) > 1 and name in _SINGLE:
        raise ValueError(f"more than one argument after {match[1]}")
    if name == "port":
        found = [_port(found[0])]
    elif name in ("connecttimeout", "serveraliveinterval"):
        found = [_time(found[0])]
    elif name == "requiredrsasize" and not found[0].isdigit():
        raise ValueError(f"not a number: {found[0]}")
    return name, found


def _words(text: str) -> list[str]:
    """Split text at blanks outside of quotes and not after a backslash; "#" before a word begins a comment."""
    found: list[str] = []
    position = 0
    while position < len(text):
        if text[position] in " \t":
            position += 1
            continue
        if text[position] == "#":
            break
        word, quote = "", ""
        while position < len(text):
            letter, after = text[position], text[position + 1 : position + 2]
            if letter == "\\" and after and (after in "'\"\\" or (after == " " and not quote)):
                word += after
                position += 1
            elif not quote and letter in " \t":
                break
            elif not quote and letter in "'\"":
                quote = letter
            elif letter == quote:
                quote = ""
            else:
                word += letter
            position += 1
        if quote:
            raise ValueError(f"no closing {quote}")
        found.append(word)
    return found


def _port(text: str) -> str:
    try:
        number = int(text) if text.isdecimal() else socket.getservbyname(text, "tcp")
    except OSError:
        number = 0
    if not 0 < number < 65536:
        raise ValueError(f"not a port: {text}")
    return str(number)


def _time(text: str) -> str:
    """Return the seconds of a time such as 90, 1m30s or none."""
    if text == "none":
        return text
    if re.fullmatch(r"(\d+[smhdw]?)+", text, re.IGNORECASE | re.ASCII) is None:
        raise ValueError(f"not a time: {text}")
    parts = re.findall(r"(\d+)([smhdw]?)", text.lower(), re.ASCII)
    return str(sum(int(count) * _SECONDS[unit] for count, unit in parts))
