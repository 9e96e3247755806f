"""A command on another host, through the `ssh` program.

The program reports only after a while that it cannot connect, by its exit status 255 and
a text on stderr. So HostUnreachable and HostRefused are raised by the first read or write
here, not when the transport is created. If a host accepts the connection and then sends
nothing, ssh waits for ever: the caller of `read` needs a time limit of its own.
"""

import contextlib
import errno
import re
import subprocess
from pathlib import Path

from blockdiff.errors import BlockdiffError, HostRefused, HostUnreachable
from blockdiff.printable import Log
from blockdiff.transport.destination import Destination
from blockdiff.transport.keyfile import advice, unused
from blockdiff.transport.local import LocalTransport
from blockdiff.transport.settings import SshSettings
from blockdiff.transport.sshcommand import arguments

OWN_STATUS = 255  # of ssh itself, when it failed
END_S = 5.0  # from the end of its streams to the end of ssh

# lines of ssh that mean a refusal, by the server or by ssh itself
_REFUSED = re.compile(
    r"permission denied|host key|host identification|too many authentication failures|revoked|"
    r"no matching|no mutual|unprotected|bad owner|bad configuration|bad permissions|terminating, \d+ bad|"
    r"certificate|no supported authentication|administratively prohibited|not allowed",
    re.IGNORECASE,
)
_DENIED = re.compile(r"permission denied \(", re.IGNORECASE)  # followed by the server's methods
_UNREACHABLE = re.compile(
    r"could not resolve|connection refused|timed out|timeout|no route|unreachable|closed|reset|broken pipe|"
    r"kex_exchange_identification|not responding",
    re.IGNORECASE,
)
# what ssh reports in several lines; (pattern, reason, hint)
_HOST_KEY = (
    (
        re.compile("revoked host key|marked as revoked|revoked by file", re.IGNORECASE),
        "its host key is revoked",
        "do not connect: another machine may have this key",
    ),
    (
        re.compile("host identification has changed", re.IGNORECASE),
        "its host key has changed; the host was reinstalled, or another machine answers in its place",
        "if the change is expected: remove the former key with ssh-keygen -R",
    ),
    (
        re.compile("certificate invalid: .*", re.IGNORECASE),
        "its host key is not known: {}",
        "have the key signed again, or add it to known_hosts",
    ),
    (
        re.compile("error checking host key .*", re.IGNORECASE),
        "its host key cannot be checked: {}",
        "correct that file",
    ),
    (
        re.compile("host key is known|host key verification failed", re.IGNORECASE),
        "its host key is not known",
        "compare the key's fingerprint on the host's console with that of ssh-keyscan, then add it to known_hosts",
    ),
)


class OpenSshTransport(LocalTransport):
    """A command on another host, run by an `ssh` process."""

    def __init__(
        self,
        destination: Destination,
        command: str,
        *,
        settings: SshSettings,
        timeout_s: float,
        rsh: str | None = None,
        log: Log | None = None,
    ) -> None:
        """Start it; raises ProgramMissing or CommandFailed if that fails."""
        self._answered = False
        self._settings = settings
        argv, self._known = arguments(destination, command, rsh=rsh, settings=settings, timeout_s=timeout_s)
        super().__init__(
            argv,
            host=destination.host,
            # the ssh for a jump host must not open a window to ask for a password, either
            environment={**settings.environment, "SSH_ASKPASS_REQUIRE": "never"},
            log=log,
        )

    def read(self, size: int) -> bytes:
        data = super().read(size)
        if data:
            self._answered = True
        else:
            self._check_end()
        return data

    def write(self, data: bytes | bytearray | memoryview) -> None:
        try:
            super().write(data)
        except BrokenPipeError:
            self._check_end()
            raise

    def wait(self, timeout_s: float) -> int | None:
        status = super().wait(timeout_s)
        return None if status == OWN_STATUS else status

    def _check_end(self) -> None:
        """Raise the error that made ssh end, before the command started or later.

        ssh has the same status, without a text, for a command that a signal ended.
        """
        if super().wait(END_S) == OWN_STATUS:
            error = self._denied() or failure(self.host, self.diagnostics())
            if error is not None and self._answered:
                raise ConnectionResetError(errno.ECONNRESET, f"the connection was cut: {error.args[1]}")
            if error is not None:
                raise error

    def _denied(self) -> HostRefused | None:
        """Return the error for a host that accepted no key, with those that could not be used; else None."""
        line = next((line for line in self.diagnostics().splitlines()[::-1] if _DENIED.search(line)), None)
        if line is None:
            return None
        in_agent = self._keys_in_agent()
        files = [self._settings.home / name[2:] if name.startswith("~/") else Path(name) for name in
                 self._known.get("identityfile", ())]  # fmt: skip
        found = {file: unused(file) for file in files if file.exists() and not _is_in_agent(file, in_agent)}
        skipped = [each for each in found.values() if each is not None]
        user = self._known.get("user", [""])[0]
        tried = bool(in_agent) or None in found.values()
        text = line.rstrip(".") + (f"; skipped {', '.join(map(str, skipped))}" if skipped else "")
        return HostRefused(self.host, text, hint=advice(user, tried, skipped))

    def _keys_in_agent(self) -> str:
        """Return the public keys in the ssh-agent, one on each line."""
        ours = self._settings.environment.get("SSH_AUTH_SOCK", "")
        agent = self._known.get("identityagent", [ours])[0]
        environment = {**self._settings.environment, "SSH_AUTH_SOCK": ours if agent == "SSH_AUTH_SOCK" else agent}
        try:
            done = subprocess.run(
                ["ssh-add", "-L"], env=environment, timeout=END_S, stdin=subprocess.DEVNULL,
                capture_output=True, text=True, errors="replace",
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            return ""
        return done.stdout if done.returncode == 0 else ""


def _is_in_agent(file: Path, in_agent: str) -> bool:
    with contextlib.suppress(OSError, IndexError):
        return Path(f"{file}.pub").read_text(errors="replace").split()[1] in in_agent
    return False


def failure(host: str, text: str) -> BlockdiffError | None:
    """Return the error that ssh's last lines report, None if they report none."""
    for pattern, reason, hint in _HOST_KEY:
        found = pattern.search(text)
        if found is not None:
            return HostRefused(host, reason.format(found[0]), hint=hint)
    for line in reversed(text.splitlines()):
        if _REFUSED.search(line):
            return HostRefused(host, line)
        if _UNREACHABLE.search(line):
            return HostUnreachable(host, line)
    return None
