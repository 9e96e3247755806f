"""A quiet moment: no statement running that a global read lock would have to wait for.

A lock that waits stalls everybody who comes after it, so what matters is to ask for it
when it will be granted at once. The server's list of threads says when that is.
"""

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from blockdiff.printable import printable

LOOK_S = 0.5  # between two looks at the list
SAY_S = 60.0  # between two lines in the log

# threads that are there for ever, and sessions that are doing nothing
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
_VERB = re.compile(r"[\s(]*([A-Za-z]{1,20})")  # a comment before it, or anything else, may hold secrets
_SYSTEM_USERS = frozenset(("system user", "event_scheduler"))


@dataclass(frozen=True)
class Query:
    """A statement that is running. Of its text only the first word: it may hold secrets."""

    id: int
    user: str
    age_s: int
    verb: str

    def __str__(self) -> str:
        return f"{self.verb} of {self.user} (thread {self.id}), running for {self.age_s} s"


def in_the_way(threads: Iterable[Mapping[str, Any]], *, own: int, older_than_s: float) -> list[Query]:
    """Return what runs for so many seconds or longer, oldest first.

    `threads` are the rows of SHOW PROCESSLIST, column names in lower case; `own` is the
    thread that does not count. Replication, idle sessions and the server's own threads do
    not count either: they are there for ever, waiting for them would be in vain.
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
    look: Callable[[], list[Query]],
    *,
    timeout_s: float,
    log: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Query]:
    """Look until nothing is in the way, and return what still is after the timeout.

    It looks at least once, and the moment is as short as the next statement is near.
    """
    begun = clock()
    said: float | None = None
    while True:
        queries = look()
        now = clock()
        if not queries or now - begun >= timeout_s:
            return queries
        if said is None or now - said >= SAY_S:
            log(f"waiting for a quiet moment: {queries[0]}" + _more(queries))
            said = now
        sleep(min(LOOK_S, max(0.0, begun + timeout_s - now)))


def _more(queries: list[Query]) -> str:
    return f" and {len(queries) - 1} more" if len(queries) > 1 else ""
