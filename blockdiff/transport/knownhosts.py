"""Which key belongs to which host: known_hosts files, as sshd(8) describes them. Pure but for `read`.

A host is accepted only if its key is listed with its name; no key is ever added here.
Lines that cannot be parsed are skipped, as ssh does.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from blockdiff.errors import HostRefused

DEFAULT_PORT = 22
AUTHORITY, REVOKED = "@cert-authority", "@revoked"


@dataclass(frozen=True)
class Entry:
    """One line of a known_hosts file."""

    marker: str  # "", "@cert-authority" or "@revoked"
    names: str  # patterns with commas between them, or one hashed name
    key_type: str
    key: bytes  # the public key as it is sent
    place: str  # file and line, for messages

    def names_host(self, name: str) -> bool:
        """Return whether this line is for a name, "host" or "[host]:port"."""
        if self.names.startswith("|1|"):
            return _hash_matches(self.names, name)
        return matches(name, self.names.split(","))


class KnownHosts:
    """All entries of the user's and the system's files, in order."""

    def __init__(self, entries: Iterable[Entry], files: Iterable[Path] = ()) -> None:
        self._entries = tuple(entries)
        self._files = tuple(files)

    @classmethod
    def read(cls, files: Iterable[Path], host: str) -> "KnownHosts":
        """Read files; a missing one is skipped.

        Raises HostRefused, for host, if one cannot be read: it might revoke a key.
        """
        files = tuple(files)
        entries: list[Entry] = []
        for file in files:
            try:
                entries += parse(file.read_text(errors="replace"), str(file))
            except FileNotFoundError:
                continue
            except OSError as error:
                raise HostRefused(host, f"cannot read {file}: {error.strerror}") from error
        return cls(entries, files)

    def key_types(self, host: str, port: int, alias: str | None = None) -> tuple[str, ...]:
        """Return the types of the keys that are known for a host, each once."""
        names = _names(host, port, alias)
        known = (entry.key_type for name in names for entry in self._about(name) if not entry.marker)
        return tuple(dict.fromkeys(known))

    def authority(self, host: str, port: int, alias: str | None = None) -> Entry | None:
        """Return the first @cert-authority line for a host, with its port or without; None if there is none."""
        about = (entry for name in _names(host, port, alias) for entry in self._about(name))
        return next((entry for entry in about if entry.marker == AUTHORITY), None)

    def check(
        self, host: str, port: int, key: bytes, key_type: str, *, alias: str | None = None, called: str = ""
    ) -> None:
        """Make sure that this key belongs to that host; raises HostRefused if it does not, or is revoked.

        `called`: the host's name in messages, if that is a different one.
        """
        names = _names(host, port, alias)
        called = called or host
        shown = f"{key_type} key {fingerprint(key)}"
        for name in names:
            for entry in self._about(name):
                if entry.marker == REVOKED and entry.key == key:
                    raise HostRefused(
                        called, f"its {shown} is revoked in {entry.place}",
                        hint="do not connect: another machine may have this key",
                    )  # fmt: skip
        for name in names:
            known = [entry for entry in self._about(name) if not entry.marker]
            if any(entry.key == key for entry in known):
                return
            changed = next((entry for entry in known if entry.key_type == key_type), None)
            # without the port only an equal key counts: a different one may be the key of
            # another server on the same host
            if changed is not None and name == names[0]:
                raise HostRefused(
                    called,
                    f"its host key has changed: {shown} is not the one in {changed.place}; "
                    "the host was reinstalled, or another machine answers in its place",
                    hint=f"if the change is expected: ssh-keygen -R '{name}' -f {changed.place.rpartition(':')[0]}",
                )
        file = self._files[0] if self._files else "known_hosts"
        raise HostRefused(
            called,
            f"its host key is not known: {shown} is not in {file} for {names[0]}",
            hint=f"compare with `ssh-keygen -lf /etc/ssh/ssh_host_{_file_of(key_type)}_key.pub` on the host's "
            f"console, then add it with `ssh-keyscan{_port_option(port)} {host} >> {file}`",
        )

    def _about(self, name: str) -> list[Entry]:
        return [entry for entry in self._entries if entry.names_host(name)]


def parse(text: str, file: str) -> list[Entry]:
    """Return the entries of a known_hosts file's text; `file`: its name for messages."""
    entries = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        marker = words.pop(0) if words and words[0].startswith("@") else ""
        if len(words) < 3 or words[0].startswith("#") or marker not in ("", AUTHORITY, REVOKED):
            continue
        try:
            key = base64.b64decode(words[2], validate=True)
        except (binascii.Error, ValueError):
            continue
        if _type_of(key) == words[1]:
            entries.append(Entry(marker, words[0], words[1], key, f"{file}:{number}"))
    return entries


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Return whether a host's name is among patterns with `*` and `?`.

    One must match, and none of those that begin with "!".
    """
    found = False
    for pattern in patterns:
        # "[" is an ordinary character here
        plain = pattern.removeprefix("!").lower().replace("[", "[[]")
        if fnmatchcase(name.lower(), plain):
            if pattern.startswith("!"):
                return False
            found = True
    return found


def fingerprint(key: bytes) -> str:
    """Return a key's fingerprint as ssh shows it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def _names(host: str, port: int, alias: str | None) -> tuple[str, ...]:
    """Return the names to look a host up by; the first has precedence."""
    if alias is not None:
        return (alias.lower(),)
    if port == DEFAULT_PORT:
        return (host.lower(),)
    return (f"[{host.lower()}]:{port}", host.lower())


def _hash_matches(hashed: str, name: str) -> bool:
    try:
        _, _, salt, digest = hashed.split("|")
        expected = base64.b64decode(digest, validate=True)
        made = hmac.new(base64.b64decode(salt, validate=True), name.encode(), "sha1").digest()
    except (ValueError, binascii.Error):
        return False
    return hmac.compare_digest(made, expected)


def _type_of(key: bytes) -> str:
    length = int.from_bytes(key[:4], "big")
    return key[4 : 4 + length].decode("ascii", "replace")


def _file_of(key_type: str) -> str:
    return next((name for name in ("ed25519", "ecdsa", "rsa") if name in key_type), "*")


def _port_option(port: int) -> str:
    return "" if port == DEFAULT_PORT else f" -p {port}"
