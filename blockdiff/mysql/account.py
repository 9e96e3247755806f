"""Which MySQL or MariaDB server, which account and which encryption: from options, option files, environment.

The order of precedence is that of the server's own client: command line, option files,
environment. The host name localhost means the server's unix socket, as for that client.
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
    """How the connection is encrypted. Without `ca` or `verify` the server's identity is not checked."""

    ca: str | None = None  # file with the certificates of the authorities to trust
    cert: str | None = None
    key: str | None = None
    verify: bool = False  # the certificate must also name the host

    def context(self) -> ssl.SSLContext:
        """Return the context for these options; raises OSError if a file cannot be used."""
        context = ssl.create_default_context(cafile=self.ca)
        context.check_hostname = self.verify
        if not (self.verify or self.ca):
            context.verify_mode = ssl.CERT_NONE
        # the certificates that MySQL and MariaDB generate are not strict X.509
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if self.cert:
            context.load_cert_chain(self.cert, self.key)
        return context


@dataclass(frozen=True)
class Account:
    """A server, and the account to log in with."""

    user: str
    password: str = field(default="", repr=False)
    host: str = "localhost"
    port: int = PORT
    socket: str | None = None  # path; if given, host and port are not used
    database: str | None = None
    database_required: bool = True  # False: connect without it if the account may not use it
    tls: Tls | None = None

    def __str__(self) -> str:
        return self.socket or f"{self.host}:{self.port}"


def resolve(options: Mapping[str, Any], in_files: Mapping[str, str], environ: Mapping[str, str]) -> Account:
    """Return the account that options and, where they are None, option files and environment name.

    `options` has the keys user, password, host, port, socket, db, ssl, ssl_ca, ssl_cert,
    ssl_key and ssl_verify_server_cert. Raises ValueError if an option file's port is no number.
    """
    host = options["host"] or in_files.get("host") or "localhost"
    socket = options["socket"]
    tcp = in_files.get("protocol", "").lower() == "tcp"
    if socket is None and host == "localhost" and options["port"] is None and not tcp:
        socket = in_files.get("socket") or next((path for path in SOCKETS if os.path.exists(path)), None)
    password = options["password"]
    if password is None:
        password = in_files.get("password", environ.get("MYSQL_PWD", ""))
    return Account(
        user=options["user"] or in_files.get("user") or environ.get("USER") or "root",
        password=password,
        host=host,
        port=options["port"] or int(in_files.get("port") or PORT),
        socket=socket,
        database=options["db"] or "mysql",
        database_required=options["db"] is not None,
        tls=_tls(options, in_files),
    )


def _tls(options: Mapping[str, Any], in_files: Mapping[str, str]) -> Tls | None:
    """Return how to encrypt; None if nothing asks for it."""
    mode = in_files.get("ssl-mode", "").upper()
    ca = options["ssl_ca"] or in_files.get("ssl-ca")
    cert = options["ssl_cert"] or in_files.get("ssl-cert")
    key = options["ssl_key"] or in_files.get("ssl-key")
    verify = (
        options["ssl_verify_server_cert"] or _on(in_files, "ssl-verify-server-cert") or mode == "VERIFY_IDENTITY"
    )
    asked = options["ssl"] or _on(in_files, "ssl") or mode in ("REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY")
    return Tls(ca, cert, key, verify) if asked or ca or cert or key or verify else None


def _on(in_files: Mapping[str, str], name: str) -> bool:
    return name in in_files and in_files[name].lower() not in _FALSE
