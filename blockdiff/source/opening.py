"""The agent's start: its command runs, the bundle is sent, its start marker comes back.

Output of the host before that marker is skipped: banners, output of start-up files.  If the
command ends without an answer, an error names the cause.
Format: blockdiff-protocol(5), "Life of a connection".
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from blockdiff import __version__
from blockdiff.errors import (
    AgentDied,
    BlockdiffError,
    HostRefused,
    HostSilent,
    HostUnreachable,
    NoPython,
    ProtocolBroken,
    VersionsDiffer,
)
from blockdiff.formats import Buffer, FormatError
from blockdiff.printable import printable, quoted
from blockdiff.source import push
from blockdiff.transport.base import Transport
from blockdiff.wire import link, messages

END_WAIT_S = 10.0  # for an exit status, once the agent has ended its output
_MAX_NOISE = 256 * 1024  # bytes of banners and other output before the agent's marker
_READ_SIZE = 64 * 1024  # bytes
_LAST_WORDS_S = 2.0  # for the end of a command that does not read what we send


@dataclass(frozen=True)
class Hello:
    """The agent's first message."""

    host: str
    python: str
    cores: int
    digest: str  # the fastest kind it has: "xxh128" or "md5"
    codec: str  # of the wire


class AgentCommand:
    """The command on the source host that becomes the agent."""

    def __init__(
        self,
        transport: Transport,
        timeout_s: float,
        *,
        pythons: Sequence[str],
        stderr_logged: bool,
        log: Callable[[str], None],
    ) -> None:
        """`timeout_s`: how long the start may take; `pythons`: those that the command tries.

        `log` takes the last lines of a command that died, unless its stderr is already logged.
        """
        self._transport, self._timeout_s = transport, timeout_s
        self._pythons, self._stderr_logged, self._log = pythons, stderr_logged, log
        self._refusal: BlockdiffError | None = None  # what the transport raised while we were sending
        self.host = transport.host

    def start(self, bundle: bytes) -> Callable[[int], bytes]:
        """Send the bundle and wait for the agent's start marker; returns what reads what comes after it.

        Raises HostRefused, HostSilent, HostUnreachable, NoPython, AgentDied or ProtocolBroken.
        """
        timer = threading.Timer(self._timeout_s, self._transport.close)
        timer.daemon = True
        began = time.monotonic()
        timer.start()
        output = b""
        try:
            # a host may refuse us before it has read all of this: then its output has the reason
            sender = threading.Thread(target=self._send, args=(bundle,), daemon=True)
            sender.start()
            while messages.SYNC_MARK not in output:
                if len(output) > _MAX_NOISE:
                    raise ProtocolBroken(self.host, "no agent start marker in its output")
                data = self._transport.read(_READ_SIZE)
                if not data:
                    raise OSError("the command ended")
                output += data
        except OSError as error:
            if time.monotonic() - began >= self._timeout_s:
                raise HostSilent(self.host, f"{self._timeout_s:g}") from None
            raise self._refusal or self.why_ended(error) from None
        finally:
            timer.cancel()
        rest = output.partition(messages.SYNC_MARK)[2]
        early = [rest] if rest else []

        def read(size: int) -> bytes:
            return early.pop() if early else self._transport.read(size)

        return read

    def _send(self, bundle: bytes) -> None:
        try:
            self._transport.write(bundle)
        except (OSError, BlockdiffError) as error:
            if isinstance(error, BlockdiffError):
                self._refusal = error  # the reader may not get this error itself
            # the reason may be in its output: give the reader a moment to read it
            self._transport.wait(_LAST_WORDS_S)
            self._transport.close()

    def why_ended(self, error: Exception) -> BlockdiffError:
        """Return the error for an agent, or a command, that ended without a message about it."""
        if isinstance(error, ConnectionResetError):
            return HostUnreachable(self.host, error.strerror or error)
        if isinstance(error, link.LinkCut):
            return HostUnreachable(self.host, error)
        status = self._transport.wait(END_WAIT_S)
        lines = self._transport.diagnostics().splitlines()
        last = lines[-1] if lines else ""
        sudo = next((line for line in reversed(lines) if line.startswith("sudo:")), "")
        absent = sudo.endswith("command not found") or push.no_python(status, "\n".join(lines))
        if not self._stderr_logged and (len(lines) > 1 or absent):  # else the one is in the error
            for line in lines:
                self._log(f"{self.host}: {line}")
        if absent:
            return NoPython(self.host, ", ".join(self._pythons))
        if sudo:
            hint = "let the user run python with sudo and without a password"
            return HostRefused(self.host, quoted(sudo), hint=hint)
        reason = quoted(last) or str(error)
        return AgentDied(self.host, f"{reason} (exit status {'unknown' if status is None else status})")


def decode_hello(host: str, kind: int, payload: Buffer) -> Hello:
    """Return the hello that a frame carries.  Raises ProtocolBroken or VersionsDiffer."""
    try:
        if kind != messages.HELLO:
            raise FormatError(f"expected a hello, got frame {kind}")
        hello = messages.decode_talk(
            payload, protocol=int, program=str, python=str, host=str, cores=int, digest=str, codec=str
        )
    except FormatError as error:
        raise ProtocolBroken(host, error) from None
    if (hello["protocol"], hello["program"]) != (messages.PROTOCOL, __version__):
        theirs = f"protocol {hello['protocol']} of {printable(hello['program'], 40)}"
        raise VersionsDiffer(host, theirs, f"protocol {messages.PROTOCOL} of {__version__}")
    if hello["digest"] not in ("md5", "xxh128"):
        raise ProtocolBroken(host, f"unknown digest {printable(hello['digest'], 40)}")
    name, python, codec = (printable(hello[key], 255) for key in ("host", "python", "codec"))
    return Hello(name, python, hello["cores"], hello["digest"], codec)
