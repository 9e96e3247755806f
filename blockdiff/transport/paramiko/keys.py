"""The keys to try on a host: those in an ssh-agent, and those in files."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paramiko
from paramiko.agent import AgentSSH

from blockdiff.printable import visible
from blockdiff.transport.keyfile import Unused, unused
from blockdiff.transport.settings import SshSettings
from blockdiff.transport.sshconfig import HostConfig

ACCEPTED = "pubkeyacceptedalgorithms"


class _Agent(AgentSSH):
    """An ssh-agent at a given socket."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__()
        stream = socket.socket(socket.AF_UNIX)
        try:
            stream.settimeout(timeout_s)
            stream.connect(str(path))
            self._connect(stream)  # type: ignore[attr-defined]
        except BaseException:
            stream.close()
            raise

    def close(self) -> None:
        self._close()  # type: ignore[attr-defined]


def signatures(key: Any) -> tuple[str, ...]:
    """Return the algorithms that a key can sign with, as PubkeyAcceptedAlgorithms names them."""
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
    """Yield keys and their names in ssh's order: configured keys in the ssh-agent, others in it, files.

    Adds keys that could not be used to `skipped`, and those that only the `ssh` program could use to `more`.
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

    with contextlib.ExitStack() as stack:
        in_agent: dict[bytes, Any] = {}
        if config.agent_socket is not None:
            try:
                agent = _Agent(config.agent_socket, timeout_s)
                stack.callback(agent.close)
                in_agent = {key.blob: key for key in agent.get_keys()}
            except (OSError, EOFError, paramiko.SSHException) as error:
                skipped.append(Unused(f"the ssh-agent at {config.agent_socket}", visible(str(error))))
        for blob, key in tuple(in_agent.items()):
            name = f"ssh-agent key {visible(key.comment)}"
            if not accepted(key, name):
                del in_agent[blob]
            elif key.get_name().startswith("sk-"):
                del in_agent[blob]
                more.append(f"the security key {visible(key.comment)}")
        publics = {path: _public(path) for path in config.identity_files}
        first = [blob for blob in publics.values() if blob in in_agent]
        others = [] if config.identities_only else [blob for blob in in_agent if blob not in first]
        for blob in dict.fromkeys((*first, *others)):
            yield in_agent[blob], f"ssh-agent key {visible(in_agent[blob].comment)}"
        for path in dict.fromkeys(config.identity_files):
            if publics[path] in in_agent or not path.exists():
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
    """Return the public key in FILE.pub, or in FILE itself; b"" if there is none."""
    for file in (Path(f"{path}.pub"), path):
        with contextlib.suppress(OSError, ValueError, paramiko.SSHException):
            return bytes(paramiko.pkey.PublicBlob.from_file(str(file)).key_blob)
    return b""


def _load(path: Path, skipped: list[Unused], more: list[str]) -> Any:
    found = unused(path)
    if found is None:
        try:
            return paramiko.PKey.from_path(path)
        except Exception as error:  # paramiko passes on every error of its key parsers
            if _public(path)[4:7] == b"sk-":
                more.append(f"the security key {path}")
            found = Unused(str(path), visible(str(error)) or type(error).__name__)
    skipped.append(found)
    return None


def has_ticket(settings: SshSettings) -> bool:
    """Return whether there may be a Kerberos ticket to log in with."""
    return "KRB5CCNAME" in settings.environment or Path(f"/tmp/krb5cc_{os.getuid()}").exists()
