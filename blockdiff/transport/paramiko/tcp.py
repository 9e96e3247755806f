"""The direct TCP connection to a host's port."""

import socket

from blockdiff.errors import HostUnreachable
from blockdiff.transport.sshconfig import HostConfig


def connect(config: HostConfig, timeout_s: float) -> socket.socket:
    """Return a connected socket; raises HostUnreachable with the error of each address."""
    families = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}
    family = families.get(config.address_family, socket.AF_UNSPEC)
    try:
        found = socket.getaddrinfo(config.hostname, config.port, family, socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise HostUnreachable(config.name, f"cannot resolve {config.hostname}: {reason}") from error
    reasons = []
    for kind, _, _, _, address in found:
        stream = socket.socket(kind, socket.SOCK_STREAM)
        try:
            stream.settimeout(timeout_s)
            if config.bind_address:
                stream.bind((config.bind_address, 0))
            stream.connect(address)
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            return stream
        except OSError as error:
            stream.close()
            reasons.append(f"{address[0]} port {config.port}: {error.strerror or error}")
    raise HostUnreachable(config.name, "; ".join(reasons) or "it has no address")
