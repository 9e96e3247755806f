"""One connection of paramiko's: fast, bounded, and with the configured algorithms only.

Session keys are renewed only when the server requests it: if we requested it and a channel
ended meanwhile, paramiko's thread would wait for itself.
"""

import signal
from typing import Any

import paramiko
from paramiko.common import MSG_CHANNEL_REQUEST
from paramiko.packet import Packetizer

from blockdiff.transport.paramiko.buffer import ReadAhead
from blockdiff.transport.sshconfig import HostConfig, NotHonoured

WINDOW = 8 * 1024 * 1024  # bytes in transit to us at most: 300 MB/s at 25 ms
PACKET = 32 * 1024  # bytes of data in one packet; sshd does not fill larger ones
MAX_PACKET = 256 * 1024  # bytes; a larger one is an error, as for ssh
NEVER = 1 << 62  # bytes or packets after which we request new keys
FAST_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr")


class _Packetizer(Packetizer):
    REKEY_BYTES = REKEY_PACKETS = NEVER

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:
        if n > MAX_PACKET:
            raise paramiko.SSHException(f"it announces a packet of {n} bytes")
        return super().read_all(n, check_rekey)


class Connection(paramiko.Transport):
    """A connection that also notes which signal ended a command, which paramiko ignores."""

    signals: dict[int, int]  # channel -> number

    def __init__(self, stream: Any, timeout_s: float) -> None:
        super().__init__(
            ReadAhead(stream),  # type: ignore[arg-type]
            default_window_size=WINDOW,
            default_max_packet_size=PACKET,
            packetizer_class=_Packetizer,
        )
        self.signals = {}
        self.banner_timeout = self.handshake_timeout = self.auth_timeout = timeout_s
        self.channel_timeout = timeout_s
        handlers: dict[int, Any] = {**paramiko.Transport._channel_handler_table}  # type: ignore[attr-defined]
        self._channel_handler_table = {**handlers, MSG_CHANNEL_REQUEST: self._note_signal}

    def _note_signal(self, channel: paramiko.Channel, message: paramiko.Message) -> None:
        if message.get_text() == "exit-signal":
            message.get_boolean()
            number = getattr(signal, f"SIG{message.get_text()}", None)
            if isinstance(number, signal.Signals):
                self.signals[channel.chanid] = int(number)
            channel.status_event.set()
            return
        message.rewind()
        message.get_int()
        channel._handle_request(message)  # type: ignore[attr-defined]

    def sign_by(self, algorithms: list[str]) -> None:
        """Let the next key sign with these only; paramiko uses this for RSA."""
        plain = {name.partition("-cert-")[0] for name in algorithms}  # a certificate has it, too
        self.disabled_algorithms = {}
        self.disabled_algorithms = {"pubkeys": [name for name in self.preferred_pubkeys if name not in plain]}

    def end(self) -> None:
        self.packetizer.complete_handshake()  # else its timer keeps running
        self.close()


def restrict(connection: Connection, config: HostConfig, known_types: tuple[str, ...]) -> None:
    """Offer only what the configuration allows: the fastest ciphers first, types of known host keys first."""

    def allowed(keyword: str, ours: Any) -> tuple[str, ...]:
        names = tuple(name for name in ours if config.permits(keyword, name))
        if not names:
            raise NotHonoured(f"{keyword} {config.algorithms[keyword]}")
        return names

    options = connection.get_security_options()
    fast = [name for name in FAST_CIPHERS if name in options.ciphers]  # older versions lack some
    options.ciphers = tuple(dict.fromkeys(allowed("ciphers", [*fast, *options.ciphers])))
    options.digests = allowed("macs", options.digests)
    options.kex = allowed("kexalgorithms", options.kex)
    keys = allowed("hostkeyalgorithms", options.key_types)
    # a key of type ssh-rsa signs as rsa-sha2-256 or rsa-sha2-512
    options.key_types = tuple(
        sorted(keys, key=lambda name: ("ssh-rsa" if name.startswith("rsa-") else name) not in known_types)
    )
