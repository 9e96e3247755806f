"""Which MySQL or MariaDB server, as whom, and how encrypted: from options, files, environment.

The order of precedence is that of the server's own client: command line, option files,
environment. The host name localhost means the server's unix socket, as it does there.
"""

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SOCKETS = ("/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock", "/tmp/mysql.sock")
PORT = 3306
_FALSE = frozenset(("0", "off", "false", "no"))


@dataclass(frozen=True)
class Tls:
    """How the connection is encrypted. Without a CA or verify the server may be anyone."""

    ca: str | None = None  # file with the certificates of the authorities to trust
    cert: str | None = None
    key: str | None = None
    verify: bool = False  # also that the certificate is for the host that was asked for

    def context(self) -> ssl.SSLContext:
        """Return the context of these options; raises OSError if a file is not usable."""
        context = ssl.create_default_context(cafile=self.ca)
        context.check_hostname = self.verify
        if not (self.verify or self.ca):
            context.verify_mode = ssl.CERT_NONE
        # certificates that MySQL and MariaDB make for themselves are not strict X.509
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if self.cert:
            context.load_cert_chain(self.cert, self.key)
        return context


@dataclass(frozen=True)
class Account:
    """Which server, and as whom."""

    user: str
    password: str = field(default="", repr=False)
    host: str = "localhost"
    port: int = PORT
    socket: str | None = None  # path; where given, host and port do not count
    database: str | None = None
    database_required: bool = True  # False: go on without it where it may not be used
    tls: Tls | None = None

    def __str__(self) -> str:
        return self.socket or f"{self.host}:{self.port}"


def resolve(options: Mapping[str, Any], said: Mapping[str, str], environ: Mapping[str, str]) -> Account:
    """Return the account that options and, where they are None, option files and environment name.

    `options` has the keys user, password, host, port, socket, db, ssl, ssl_ca, ssl_cert,
    ssl_key and ssl_verify_server_cert. Raises ValueError if an option file's port is no number.
    """
    host = options["host"] or said.get("host") or "localhost"
    socket = options["socket"]
    tcp = said.get("protocol", "").lower() == "tcp"
    if socket is None and host == "localhost" and options["port"] is None and not tcp:
        socket = said.get("socket") or next((path for path in SOCKETS if os.path.exists(path)), None)
    password = options["password"]
    if password is None:
        password = said.get("password", environ.get("MYSQL_PWD", ""))
    return Account(
        user=options["user"] or said.get("user") or environ.get("USER") or "root",
        password=password,
        host=host,
        port=options["port"] or int(said.get("port") or PORT),
        socket=socket,
        database=options["db"] or "mysql",
        database_required=options["db"] is not None,
        tls=_tls(options, said),
    )


def _tls(options: Mapping[str, Any], said: Mapping[str, str]) -> Tls | None:
    """Return how to encrypt; None if nothing asks for it."""
    mode = said.get("ssl-mode", "").upper()
    ca = options["ssl_ca"] or said.get("ssl-ca")
    cert = options["ssl_cert"] or said.get("ssl-cert")
    key = options["ssl_key"] or said.get("ssl-key")
    verify = (
        options["ssl_verify_server_cert"] or _on(said, "ssl-verify-server-cert") or mode == "VERIFY_IDENTITY"
    )
    asked = options["ssl"] or _on(said, "ssl") or mode in ("REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY")
    return Tls(ca, cert, key, verify) if asked or ca or cert or key or verify else None


def _on(said: Mapping[str, str], name: str) -> bool:
    return name in said and said[name].lower() not in _FALSE
