"""Long queries: statements that a global read lock would have to wait for.

A lock that waits blocks every writer that comes after it. So it is requested only when it will
be granted at once, which the server's list of threads shows.
"""

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from blockdiff.printable import printable

POLL_S = 0.5  # between two readings of the list
REPEAT_S = 60.0  # between two lines in the log

# threads that never end, and idle sessions
_IDLE = frozenset(
    (
        "sleep",
        "daemon",
        "connect",
        "delayed insert",
        "binlog dump",
        "binlog dump gtid",
        "slave_io",
        "slave_sql",
        "slave_worker",
    )
)
_VERB = re.compile(r"[\s(]*([A-Za-z]{1,20})")  # the rest of a statement may contain secrets
_SYSTEM_USERS = frozenset(("system user", "event_scheduler"))


@dataclass(frozen=True)
class Query:
    """A running statement. Only the first word of its text is kept: the rest may contain secrets."""

    id: int
    user: str
    age_s: int
    verb: str

    def __str__(self) -> str:
        return f"{self.verb} of {self.user} (thread {self.id}), running for {self.age_s} s"


def running(threads: Iterable[Mapping[str, Any]], *, own: int, older_than_s: float) -> list[Query]:
    """Return the statements that have been running for so many seconds or longer, longest first.

    `threads` are the rows of SHOW PROCESSLIST, column names in lower case; `own`: our own
    thread, which does not count. Replication, idle sessions and the server's own threads do
    not count either: they never end.
    """
    queries = []
    for row in threads:
        if int(row["id"]) == own or str(row["user"]).lower() in _SYSTEM_USERS:
            continue
        if str(row["command"]).lower() in _IDLE:
            continue
        age_s = int(row["time"] or 0)
        if age_s >= older_than_s:
            verb = _VERB.match(str(row["info"] or "")) or _VERB.match(str(row["command"]))
            queries.append(Query(int(row["id"]), printable(row["user"]), age_s, verb[1].upper() if verb else "?"))
    return sorted(queries, key=lambda query: -query.age_s)


def wait(
    read: Callable[[], list[Query]],
    *,
    timeout_s: float,
    log: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Query]:
    """Read the list until it is empty, at least once; return what is still running after the timeout."""
    begun = clock()
    logged: float | None = None
    while True:
        queries = read()
        now = clock()
        if not queries or now - begun >= timeout_s:
            return queries
        if logged is None or now - logged >= REPEAT_S:
            log(f"waiting for queries to end: {queries[0]}" + _more(queries))
            logged = now
        sleep(min(POLL_S, max(0.0, begun + timeout_s - now)))


def _more(queries: list[Query]) -> str:
    return f" and {len(queries) - 1} more" if len(queries) > 1 else ""
