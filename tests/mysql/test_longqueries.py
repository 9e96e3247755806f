"""Which statements a lock would have to wait for, and how long it waits for them."""

from mysqlserver import query

from blockdiff.mysql import longqueries


def test_idle_system_and_own_threads_are_not_in_the_way():
    rows = [
        dict(zip(("id", "user", "host", "db", "command", "time", "state", "info"), row, strict=True))
        for row in [
            query(1, 50),
            query(2, 900, user="system user"),
            query(3, 900, command="Sleep", info=None),
            query(4, 900, command="Binlog Dump GTID"),
            query(5, 900, command="Slave_SQL"),
            query(6, 900, command="Daemon", user="event_scheduler"),
            query(7, 1),
            query(8, 99, info="select secret from accounts"),
            query(9, None),
            query(10, 60, info=None, command="Killed"),
        ]
    ]

    found = longqueries.running(rows, own=1, older_than_s=2)

    assert [one.id for one in found] == [8, 10]
    assert "secret" not in str(found[0]) and str(found[0]) == "SELECT of web (thread 8), running for 99 s"
    assert {1, 7, 8, 9, 10} == {one.id for one in longqueries.running(rows, own=99, older_than_s=0)}


def test_waiting_looks_once_even_without_patience_and_says_whom_it_waits_for():
    clock = iter(range(1000))
    said = []
    busy = [longqueries.Query(8, "web", 99, "SELECT")]

    assert busy == longqueries.wait(lambda: busy, timeout_s=0, log=said.append, clock=lambda: 0.0)
    assert said == []
    answers = [busy, busy, []]
    assert longqueries.wait(
        lambda: answers.pop(0), timeout_s=50, log=said.append, clock=lambda: next(clock), sleep=lambda _: None
    ) == []
    assert said == ["waiting for queries to end: SELECT of web (thread 8), running for 99 s"]
