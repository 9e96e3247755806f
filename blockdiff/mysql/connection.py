"""One connection to a MySQL or MariaDB server: opened once, never reopened.

A lock ends with its connection, so nothing here connects again by itself: if the connection
is lost, so is the lock. Every wait for an answer ends after `answer_s` seconds, so a server or
network that hangs cannot block us.
"""

import contextlib
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from blockdiff.errors import LockUnreachable
from blockdiff.mysql.account import Account
from blockdiff.printable import printable

CONNECT_S = 10.0
SYNTAX_ERROR = 1064
# database access denied, no such database
_NO_DATABASE = (1044, 1049)


class ServerRefused(Exception):
    """The server answered a statement with an error."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{text} ({code})")
        self.code = code


class ServerGone(Exception):
    """The connection was closed, or no answer came in time."""


class Connection:
    """An open connection. Raises LockUnreachable if it cannot be opened."""

    def __init__(self, account: Account, *, answer_s: float) -> None:
        import pymysql  # here, since only a run that locks a database needs it

        self._errors = pymysql.err
        self._dict_cursor = pymysql.cursors.DictCursor
        self.account = account
        arguments: dict[str, Any] = {"unix_socket": account.socket} if account.socket else {}
        try:
            if account.tls:
                arguments["ssl"] = account.tls.context()
            self._connection = pymysql.connect(
                host=account.host,
                port=account.port,
                user=account.user,
                password=account.password,
                connect_timeout=CONNECT_S,
                read_timeout=answer_s,
                write_timeout=answer_s,
                autocommit=True,
                use_unicode=False,
                conv={},
                **arguments,
            )
        except (pymysql.err.MySQLError, OSError, RuntimeError, UnicodeError) as error:
            raise LockUnreachable(f"{account}: {_text(error)}") from error
        try:
            self._begin()
        except (ServerRefused, ServerGone) as error:
            self.close()
            raise LockUnreachable(f"{account}: {error}") from error
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        if self.account.tls and not self.rows("SHOW STATUS LIKE 'Ssl_cipher'")[0]["value"]:
            # older clients use clear text without an error
            raise ServerGone("the server does not speak TLS")
        if self.account.database:
            try:
                self._call(self._connection.select_db, self.account.database)
            except ServerRefused as error:
                if self.account.database_required or error.code not in _NO_DATABASE:
                    raise
        row = self.rows("SELECT @@version AS version, CONNECTION_ID() AS id")[0]
        self.version = printable(row["version"], 200)
        self.id = int(row["id"])
        self.mariadb = "mariadb" in self.version.lower()
        self.release = release_of(self.version)

    def rows(self, statement: str) -> list[dict[str, Any]]:
        """Run a statement and return its rows, column names in lower case, every value as text.

        Bytes that are not UTF-8 are replaced: a server may cut the text of a statement inside a
        character, and shows the bytes of BLOBs in it unchanged.
        Raises ServerRefused if the server refuses, ServerGone if the connection is lost.
        """
        with self._connection.cursor(self._dict_cursor) as cursor:
            self._call(cursor.execute, statement)
            return [{name.lower(): _decoded(value) for name, value in row.items()} for row in cursor.fetchall()]

    def do(self, statement: str) -> None:
        """Run a statement that returns no rows; raises what `rows` raises."""
        self.rows(statement)

    def ping(self) -> None:
        """Check that this connection is still open; raises ServerGone if not."""
        try:
            self._call(self._connection.ping, False)
        except ServerRefused as error:
            raise ServerGone(str(error)) from error

    def set(self, **variables: float) -> None:
        """Set variables of this session."""
        values = ", ".join(f"{name} = {value}" for name, value in variables.items())
        self.do(f"SET SESSION {values}")

    def close(self) -> None:
        """Close the connection; the server then releases all its locks."""
        with contextlib.suppress(self._errors.MySQLError, OSError):
            self._connection.close()

    def _call(self, function: Any, *arguments: Any) -> None:
        try:
            function(*arguments)
        except (self._errors.InterfaceError, self._errors.InternalError, OSError) as error:
            self.close()
            raise ServerGone(_text(error)) from error
        except self._errors.MySQLError as error:
            code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
            if self._connection.open and code and not 2000 <= code < 3000:  # 2xxx: the client's own
                raise ServerRefused(code, _text(error)) from error
            self.close()
            raise ServerGone(_text(error)) from error


def kill(account: Account, thread: int, *, is_same: Callable[[Connection], bool], answer_s: float) -> None:
    """Try to end another session of ours through a new connection; errors are ignored.

    A server that is busy or waits for a lock does not notice that its client has gone.
    `is_same` returns whether this is still the same server: behind a load balancer it may be
    another one, and after a restart thread numbers start again.
    """
    try:
        connection = Connection(replace(account, database=None), answer_s=answer_s)
    except LockUnreachable:
        return
    with contextlib.suppress(ServerRefused, ServerGone):
        if is_same(connection):
            connection.do(f"KILL {thread:d}")
    connection.close()


def release_of(version: str) -> tuple[int, ...]:
    """Return the release in a server's version text: "10.11.6-MariaDB" is (10, 11, 6)."""
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", version)
    return tuple(int(part or 0) for part in match.groups()) if match else (0, 0, 0)


def _decoded(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")


def _text(error: BaseException) -> str:
    """Return an error's text without its number, safe for a terminal; pymysql's arguments are (code, text)."""
    if len(error.args) > 1 and isinstance(error.args[0], int):
        return printable(error.args[1])
    return printable(error) or type(error).__name__
