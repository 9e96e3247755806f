"""A command on another host, through paramiko.

No password is ever asked for or sent, and only host keys in known_hosts are accepted. For what
paramiko cannot do as ssh does, NotHonoured is raised.
"""

import contextlib
import errno
import logging
import re
import threading
from typing import Any, Protocol, TypeVar

import paramiko

from blockdiff.errors import BlockdiffError, HostRefused, HostUnreachable
from blockdiff.printable import Log, visible
from blockdiff.transport.base import Shared
from blockdiff.transport.destination import Destination, parse_hop
from blockdiff.transport.keyfile import Unused, advice
from blockdiff.transport.knownhosts import KnownHosts
from blockdiff.transport.paramiko import tcp
from blockdiff.transport.paramiko.buffer import Arrivals
from blockdiff.transport.paramiko.connection import PACKET, WINDOW, Connection, restrict
from blockdiff.transport.paramiko.keys import ACCEPTED, has_ticket, keys, signatures
from blockdiff.transport.paramiko.proxycommand import ProxyCommand
from blockdiff.transport.settings import SshSettings
from blockdiff.transport.sshconfig import HostConfig, NotHonoured, resolve
from blockdiff.transport.stderr import Diagnostics, drain

KEEPALIVE_S = 15
STDERR_S = 2.0  # how long the rest of stderr is read after the command has ended
MAX_DEPTH = 8  # jump hosts behind jump hosts

logging.getLogger("paramiko").addHandler(logging.NullHandler())  # else it would write to stderr

_Closable = TypeVar("_Closable", bound="SupportsClose")


class SupportsClose(Protocol):
    """An object with `close`."""

    def close(self) -> None: ...


class ParamikoTransport:
    """A command's channel and everything that carries it."""

    def __init__(self, host: str, route: "_Route", connection: Connection, channel: paramiko.Channel) -> None:
        self.host = host
        self.shared: Shared | None = None
        self._route, self._connection, self._channel = route, connection, channel
        self._closed = False
        self._diagnostics = route.diagnostics
        self._drain = drain(channel.recv_stderr, self._diagnostics, f"stderr of {host}")

    def read(self, size: int) -> bytes:
        try:
            data = self._channel.recv(size)
        except (paramiko.SSHException, EOFError) as error:
            raise self._broken() from error
        # after our own close, data that had arrived before is not returned
        if self._closed or (not data and not self._ended()):
            raise self._broken()
        return data

    def write(self, data: bytes | bytearray | memoryview) -> None:
        with memoryview(data) as whole, whole.cast("B") as view:
            done = 0
            while done < len(view):
                try:
                    sent = self._channel.send(bytes(view[done : done + PACKET]))
                except (paramiko.SSHException, EOFError, OSError) as error:
                    raise self._broken() from error
                if sent == 0:
                    raise self._broken()
                done += sent

    def close_write(self) -> None:
        with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
            self._channel.shutdown_write()

    def wait(self, timeout_s: float) -> int | None:
        if not self._channel.status_event.wait(timeout_s):
            return None
        self._drain.join(STDERR_S)
        number = self._connection.signals.get(self._channel.chanid)
        if number is not None:
            return -number
        return self._channel.exit_status if self._channel.exit_status != -1 else None

    def diagnostics(self) -> str:
        return self._diagnostics.text()

    def close(self) -> None:
        self._closed = True
        self._route.close()

    def _ended(self) -> bool:
        """Return whether the command's output ended, as opposed to the connection."""
        return bool(self._channel.eof_received) or self.wait(0) is not None

    def _broken(self) -> OSError:
        if self._closed:
            return OSError(errno.ECANCELED, "the transport was closed")
        if self._ended():
            return BrokenPipeError(errno.EPIPE, f"the command on {self.host} has closed its input")
        error = self._connection.get_exception()
        reason = f": {_reason(error)}" if error and str(error) else ""
        return ConnectionResetError(errno.ECONNRESET, f"the connection was cut{reason}")


def connect(
    destination: Destination,
    command: str,
    *,
    settings: SshSettings,
    timeout_s: float,
    log: Log | None = None,
) -> ParamikoTransport:
    """Start a command on a host.

    Raises NotHonoured, HostUnreachable or HostRefused; timeout_s is for all of it together.
    """
    route = _Route(settings, timeout_s, log)
    timer = threading.Timer(timeout_s, route.give_up)
    timer.daemon = True
    timer.start()
    host = destination.host
    try:
        config = resolve(host, settings, user=destination.user)
        connection = route.reach(config)
        try:
            channel = connection.open_session(timeout=timeout_s)
            for buffer in ("in_buffer", "in_stderr_buffer"):  # before any data can arrive
                setattr(channel, buffer, Arrivals(2 * WINDOW))
            for name, value in config.environment:
                channel.set_environment_variable(name, value)
            channel.exec_command(command)
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise HostRefused(host, f"cannot run a command: {visible(str(error))}") from error
        return ParamikoTransport(host, route, connection, channel)
    except BaseException as error:
        route.close()
        if route.timed_out and isinstance(error, BlockdiffError):
            raise HostUnreachable(host, f"no connection within {timeout_s:g} seconds") from error
        raise
    finally:
        timer.cancel()


def _reason(error: Exception) -> str:
    """Return an error's text without the number that Python and paramiko put before it."""
    return re.sub(r":?\s*\[Errno \d+\]", ":", visible(str(error))).lstrip(": ")


class _Route:
    """Everything that was opened to reach a host: connections to jump hosts, a ProxyCommand's process."""

    def __init__(self, settings: SshSettings, timeout_s: float, log: Log | None) -> None:
        self._settings, self._timeout_s, self._log = settings, timeout_s, log
        self._opened = contextlib.ExitStack()
        self._mutex = threading.Lock()
        self.diagnostics = Diagnostics(log)
        self.timed_out = False
        self._proxy: ProxyCommand | None = None

    def close(self) -> None:
        with self._mutex:
            opened, self._opened = self._opened.pop_all(), contextlib.ExitStack()
        opened.close()  # the newest first

    def give_up(self) -> None:
        self.timed_out = True
        self.close()

    def reach(self, config: HostConfig, through: Connection | None = None, depth: int = 0) -> Connection:
        """Return a connection to a host, logged in."""
        if config.beyond:
            raise NotHonoured(f"{config.beyond[0]} for {config.name}")
        if depth > MAX_DEPTH:
            raise HostUnreachable(config.name, "its jump hosts form a loop")
        known = KnownHosts.read(config.known_hosts_files, config.name)
        place = config.hostname, config.port, config.key_alias
        authority = known.authority(*place)
        if authority is not None:
            raise NotHonoured(f"@cert-authority in {authority.place}")
        limit_s = self._limit_s(config)
        connection = self._keep(Connection(self._stream_to(config, through, depth), limit_s))
        restrict(connection, config, known.key_types(*place))
        try:
            connection.start_client(timeout=limit_s)
            key = connection.get_remote_server_key()
        except paramiko.ssh_exception.IncompatiblePeer as error:
            # "Incompatible ssh server (no acceptable ciphers)"
            reason = visible(str(error)).partition("(")[2].rstrip(")")
            raise NotHonoured(f"what {config.name} offers: {reason}") from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            reason = _reason(error) or "it closed the connection"
            raise HostUnreachable(config.name, reason + self._proxy_reason()) from error
        known.check(
            config.hostname, config.port, key.asbytes(), key.get_name(),
            alias=config.key_alias, called=config.name,
        )  # fmt: skip
        self._log_in(connection, config)
        connection.set_keepalive(config.keepalive_s or KEEPALIVE_S)
        return connection

    def _limit_s(self, config: HostConfig) -> float:
        """Return how long the connection may take, and again the handshake."""
        return min(self._timeout_s, config.connect_timeout_s or self._timeout_s)

    def _keep(self, opened: _Closable) -> _Closable:
        with self._mutex:
            self._opened.callback(opened.end if isinstance(opened, Connection) else opened.close)
        return opened

    def _stream_to(self, config: HostConfig, through: Connection | None, depth: int) -> Any:
        """Return a byte stream to the host's port."""
        if through is None and config.jumps:
            for hop in config.jumps:
                try:
                    user, host, port = parse_hop(hop)
                except ValueError as error:
                    raise HostRefused(config.name, f"its ProxyJump: {error}") from error
                through = self.reach(resolve(host, self._settings, user=user, port=port), through, depth + 1)
        limit_s = self._limit_s(config)
        if through is not None:
            try:
                return self._keep(
                    through.open_channel(
                        "direct-tcpip", (config.hostname, config.port), ("127.0.0.1", 0), timeout=limit_s
                    )
                )
            except (paramiko.SSHException, EOFError, OSError) as error:
                raise HostUnreachable(config.name, f"jump host: {visible(str(error))}") from error
        if config.proxy_command is not None:
            self._proxy = ProxyCommand(config.proxy_command, self._settings.environment, self._log)
            return self._keep(self._proxy).socket
        return self._keep(tcp.connect(config, limit_s))

    def _proxy_reason(self) -> str:
        lines = self._proxy.last_lines().splitlines() if self._proxy else []
        return f"; its ProxyCommand reports: {lines[-1]}" if lines else ""

    def _log_in(self, connection: Connection, config: HostConfig) -> None:
        tried: list[str] = []
        skipped: list[Unused] = []
        more: list[str] = []  # methods that ssh would try and we cannot
        wanted: list[str] = []  # methods that the host requires after an accepted key
        for key, name in keys(config, self._timeout_s, skipped, more):
            tried.append(name)
            connection.sign_by([each for each in signatures(key) if config.permits(ACCEPTED, each)])
            try:
                wanted = connection.auth_publickey(config.user, key)
                if not wanted:
                    self._show_banner(connection)
                    return
            except paramiko.BadAuthenticationType as error:
                types = ", ".join(error.allowed_types)
                raise HostRefused(config.name, f"it accepts no public key, only: {visible(types)}") from error
            except (paramiko.SSHException, EOFError, OSError):
                if not connection.is_active():
                    break
        self._show_banner(connection)
        if config.gssapi and has_ticket(self._settings):
            more.append("GSSAPIAuthentication")
        if config.hostbased:
            more.append("HostbasedAuthentication")
        if more:
            raise NotHonoured(more[0])
        text = "there is no key to log in with"
        if tried:
            text = f"it accepted no key for {config.user}: tried {', '.join(tried)}"
        if wanted:
            text = f"it requires more than a key of {config.user}: {visible(', '.join(wanted))}"
        if skipped:
            text += f"; skipped {', '.join(map(str, skipped))}"
        if not connection.is_active() and tried:
            raise HostRefused(
                config.name, f"{text}; it closed the connection",
                hint="if that were too many keys, name one with IdentityFile and IdentitiesOnly",
            )  # fmt: skip
        raise HostRefused(config.name, text, hint=advice(config.user, bool(tried), skipped))

    def _show_banner(self, connection: Connection) -> None:
        banner = connection.get_banner()
        if banner:
            self.diagnostics.feed(banner + b"\n")
