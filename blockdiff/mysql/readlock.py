"""The read lock of a whole database server, without blocking its writers for long.

It is requested when no long query is running, and is then granted at once. If it is not, three
limits end its wait: lock_wait_timeout, MariaDB's max_statement_time (the former counts again for
each step of the lock), and a limit of our own, after which the waiting statement is killed. Once
the lock is granted, the server ends the session if it receives nothing for IDLE_S seconds, so a
lost network or a dead machine cannot leave it locked.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from blockdiff.errors import LockLost, LockNotGranted, LockUnreachable
from blockdiff.mysql import longqueries, serverfacts
from blockdiff.mysql.account import Account
from blockdiff.mysql.connection import Connection, ServerGone, ServerRefused, kill

IDLE_S = 15  # seconds without a statement of ours after which the server releases the lock
ANSWER_S = 2.0  # how much longer than its own limit a server may take to answer
STAGES_SINCE = (10, 4, 1)
_DENIED = frozenset((1044, 1045, 1142, 1227))  # the server's codes for a missing privilege


@dataclass(frozen=True)
class Method:
    """The statements that lock, and the one that unlocks."""

    name: str
    lock: tuple[str, ...]
    unlock: str


FTWRL = Method("ftwrl", ("FLUSH TABLES WITH READ LOCK",), "UNLOCK TABLES")
BACKUP_STAGE = Method(
    "backup-stage", ("BACKUP STAGE START", "BACKUP STAGE BLOCK_COMMIT"), "BACKUP STAGE END"
)
METHODS = (FTWRL.name, BACKUP_STAGE.name, "auto")


@dataclass(frozen=True)
class Limits:
    """How long this program waits for queries, and how long writers may wait for it."""

    wait_query_s: float = 2.0
    wait_timeout_s: float = 300.0
    lock_timeout_s: float = 5.0
    kill_long_queries: bool = False


def choose(name: str, *, version: str, mariadb: bool, release: tuple[int, ...]) -> Method:
    """Return the method of this name for such a server; raises LockNotGranted if the server lacks it."""
    staged = mariadb and release >= STAGES_SINCE
    if name == BACKUP_STAGE.name and not staged:
        raise LockNotGranted(f"backup-stage needs MariaDB 10.4.1 or newer, this is {version}")
    return BACKUP_STAGE if staged and name != FTWRL.name else FTWRL


class ReadLock:
    """A read lock on one connection: take it, check it, release it.

    `method` is one of METHODS, or a Method of the caller's own. Always call `release` at
    the end; a second call does nothing.
    """

    def __init__(
        self,
        account: Account,
        method: str | Method = FTWRL.name,
        limits: Limits | None = None,
        *,
        log: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.facts: dict[str, Any] = {}
        self._account = account
        self._limits = limits or Limits()
        self._method = method
        self._log = log
        self._clock = clock
        self._sleep = sleep
        self._connection: Connection | None = None
        self._unlock: str | None = None
        self._granted: float | None = None
        self._opened = 0.0
        self._identity: dict[str, Any] = {}

    @property
    def held_s(self) -> float:
        """Return for how long the lock has been held, in seconds."""
        return 0.0 if self._granted is None else self._clock() - self._granted

    def take(self) -> dict[str, Any]:
        """Wait until no long query is running, lock, and return the facts.

        Keys: method, waited_s, lock_wait_s (the part of it in which writers may have waited),
        client_port, and those of serverfacts. Raises LockUnreachable, LockNotGranted or LockLost.
        """
        begun = self._clock()
        connection = Connection(self._account, answer_s=self._answer_s())
        self._connection = connection
        self._opened = self._clock()
        try:
            facts = self._identity = serverfacts.identity(connection)
            method = self._method
            if isinstance(method, str):
                method = choose(
                    method, version=connection.version, mariadb=connection.mariadb, release=connection.release
                )
            port = serverfacts.client_port(connection)
            connection.set(wait_timeout=IDLE_S)
            self._wait_for_queries(connection)
        except (ServerGone, ServerRefused) as error:
            self.release()
            raise LockUnreachable(f"{self._account}: {error}") from error
        asked = self._clock()
        self._lock(connection, method)
        self._granted = self._clock()
        facts = {
            **facts,
            "client_port": port,
            "method": method.name,
            "waited_s": round(self._granted - begun, 3),
            "lock_wait_s": round(self._granted - asked, 3),
        }
        try:
            where, warnings = serverfacts.position(connection)
        except ServerGone as error:
            self._give_up()
            raise LockLost(str(error)) from error
        for warning in warnings:
            self._log(f"warning: {warning}")
        self.prove()
        self.facts = {**facts, **where}
        return self.facts

    def prove(self) -> None:
        """Check that the connection of the lock is still open; raises LockLost if not."""
        if self._connection is None:
            raise LockLost("it has been released")
        try:
            self._connection.ping()
        except ServerGone as error:
            self._give_up()
            raise LockLost(str(error)) from error

    def release(self) -> None:
        """Unlock and close the connection, and add held_s to the facts.

        A server that cannot be reached releases the lock when the connection ends.
        """
        connection = self._connection
        if connection is None:
            return
        try:
            if self._unlock:
                self._log(f"issuing unlock statement: {self._unlock}")
                connection.do(self._unlock)
        except (ServerGone, ServerRefused) as error:
            self._log(f"warning: {self._unlock} failed, the connection is closed instead: {error}")
            self._give_up()
        finally:
            self._connection = None
            if self._granted is not None:
                self.facts["held_s"] = round(self.held_s, 3)
            connection.close()

    def _give_up(self) -> None:
        """Close a connection that does not answer, and have the server end its session."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        connection.close()

        def is_same(other: Connection) -> bool:
            age_s = self._clock() - self._opened
            return serverfacts.identity(other) == self._identity and serverfacts.uptime_s(other) >= age_s

        kill(self._account, connection.id, is_same=is_same, answer_s=ANSWER_S)

    def _answer_s(self) -> float:
        return self._limits.lock_timeout_s + ANSWER_S

    def _wait_for_queries(self, connection: Connection) -> None:
        limits = self._limits
        if not serverfacts.sees_all_threads(connection):
            self._log(
                "warning: without the PROCESS privilege the server does not show the queries of other accounts:"
                " cannot wait for them to end"
            )

        def read() -> list[longqueries.Query]:
            threads = connection.rows("SHOW PROCESSLIST")
            return longqueries.running(threads, own=connection.id, older_than_s=limits.wait_query_s)

        def wait(timeout_s: float) -> list[longqueries.Query]:
            return longqueries.wait(
                read, timeout_s=timeout_s, log=self._log, clock=self._clock, sleep=self._sleep
            )

        queries = wait(limits.wait_timeout_s)
        if queries and limits.kill_long_queries:
            for query in queries:
                self._log(f"killing {query}")
                try:
                    connection.do(f"KILL QUERY {query.id:d}")
                except ServerRefused as error:
                    self._log(f"warning: thread {query.id} was not killed: {error}")
            queries = wait(limits.lock_timeout_s)
        if queries:
            raise LockNotGranted(f"a long query was running for all of {limits.wait_timeout_s:g} s: {queries[0]}")

    def _lock(self, connection: Connection, method: Method) -> None:
        self._unlock = method.unlock  # from here on the server may have to unlock
        deadline = self._clock() + self._limits.lock_timeout_s
        answered = False
        try:
            for statement in method.lock:
                left_s = max(0.1, deadline - self._clock())
                connection.set(lock_wait_timeout=max(1, math.ceil(left_s)))
                if connection.mariadb:
                    connection.set(max_statement_time=left_s)
                self._log(f"issuing lock statement: {statement}")
                connection.do(statement)
            if connection.mariadb:
                connection.set(max_statement_time=0)
            answered = True
        except ServerRefused as error:
            answered = True
            if error.code in _DENIED and statement == method.lock[0]:
                self._unlock = None  # nothing was locked
            raise LockNotGranted(f"{statement}: {error}{self._grant(error, method)}") from error
        except ServerGone as error:
            raise LockNotGranted(f"{statement}: {error}") from error
        finally:
            if not answered:
                # no answer, or a signal while we waited for it: the statement may still be waiting,
                # and all writers behind it
                self._give_up()

    def _grant(self, error: ServerRefused, method: Method) -> str:
        """Return the GRANT statement for an account that lacks the privilege, "" for any other error."""
        if error.code not in _DENIED or method not in (FTWRL, BACKUP_STAGE):
            return ""
        account = serverfacts.own_account(self._connection) if self._connection is not None else None
        return f"; grant the privilege: GRANT RELOAD ON *.* TO {account or repr(self._account.user)}"
