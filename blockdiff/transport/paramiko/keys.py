"""The keys to try on a host: an ssh-agent's and those in files. Imports paramiko."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paramiko
from paramiko.agent import AgentSSH

from blockdiff.transport.keyfile import Unused, unused
from blockdiff.transport.settings import SshSettings
from blockdiff.transport.sshconfig import HostConfig
from blockdiff.transport.stderr import printable

ACCEPTED = "pubkeyacceptedalgorithms"


class _Agent(AgentSSH):
    """An ssh-agent behind a socket of our choice."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__()
        way = socket.socket(socket.AF_UNIX)
        try:
            way.settimeout(timeout_s)
            way.connect(str(path))
            self._connect(way)  # type: ignore[attr-defined]
        except BaseException:
            way.close()
            raise

    def close(self) -> None:
        self._close()  # type: ignore[attr-defined]


def signatures(key: Any) -> tuple[str, ...]:
    """Return the algorithms by which a key may log in, as PubkeyAcceptedAlgorithms calls them."""
    blob = getattr(key, "public_blob", None)
    kind = key.get_name() if blob is None else blob.key_type
    name, _, certificate = kind.partition("-cert-")
    if name != "ssh-rsa":
        return (kind,)
    end = f"-cert-{certificate}" if certificate else ""
    return f"rsa-sha2-512{end}", f"rsa-sha2-256{end}"


def keys(
    config: HostConfig, timeout_s: float, skipped: list[Unused], more: list[str]
) -> Iterator[tuple[paramiko.PKey, str]]:
    """Yield keys with their names in ssh's order: the agent's that are configured, its others, files.

    Adds to skipped what could not be used, and to more what only the `ssh` program could.
    """

    def accepted(key: Any, name: str) -> bool:
        *_, last = names = signatures(key)
        if any(config.permits(ACCEPTED, each) for each in names):
            return True
        old = last.replace("rsa-sha2-256", "ssh-rsa")
        if old != last and config.permits(ACCEPTED, old):
            more.append(f"{old} with {name}")  # with SHA-1
        else:
            skipped.append(Unused(name, f"PubkeyAcceptedAlgorithms has no {old}"))
        return False

    with contextlib.ExitStack() as opened:
        held: dict[bytes, Any] = {}
        if config.agent_socket is not None:
            try:
                agent = _Agent(config.agent_socket, timeout_s)
                opened.callback(agent.close)
                held = {key.blob: key for key in agent.get_keys()}
            except (OSError, EOFError, paramiko.SSHException) as error:
                skipped.append(Unused(f"the agent at {config.agent_socket}", printable(str(error))))
        for blob, key in tuple(held.items()):
            name = f"agent key {printable(key.comment)}"
            if not accepted(key, name):
                del held[blob]
            elif key.get_name().startswith("sk-"):
                del held[blob]
                more.append(f"the security key {printable(key.comment)}")
        publics = {path: _public(path) for path in config.identity_files}
        first = [blob for blob in publics.values() if blob in held]
        others = [] if config.identities_only else [blob for blob in held if blob not in first]
        for blob in dict.fromkeys((*first, *others)):
            yield held[blob], f"agent key {printable(held[blob].comment)}"
        for path in dict.fromkeys(config.identity_files):
            if publics[path] in held or not path.exists():
                continue
            key = _load(path, skipped, more)
            if key is None:
                continue
            certificate, key.public_blob = key.public_blob, None
            if accepted(key, str(path)):
                yield key, str(path)
            if certificate is not None:
                key.public_blob = certificate
                if accepted(key, f"{path}-cert.pub"):
                    yield key, f"{path} with its certificate"


def _public(path: Path) -> bytes:
    """Return the public key that lies beside a private one, or stands in its place; b"" if none."""
    for file in (Path(f"{path}.pub"), path):
        with contextlib.suppress(OSError, ValueError, paramiko.SSHException):
            return bytes(paramiko.pkey.PublicBlob.from_file(str(file)).key_blob)
    return b""


def _load(path: Path, skipped: list[Unused], more: list[str]) -> Any:
    found = unused(path)
    if found is None:
        try:
            return paramiko.PKey.from_path(path)
        except Exception as error:  # paramiko lets through whatever its key parsers raise
            if _public(path)[4:7] == b"sk-":
                more.append(f"the security key {path}")
            found = Unused(str(path), printable(str(error)) or type(error).__name__)
    skipped.append(found)
    return None


def has_ticket(settings: SshSettings) -> bool:
    """Return whether there is a Kerberos ticket to log in with."""
    return "KRB5CCNAME" in settings.environment or Path(f"/tmp/krb5cc_{os.getuid()}").exists()
