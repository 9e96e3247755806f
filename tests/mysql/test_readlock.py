"""Which kind of lock fits a server."""

import pytest
from mysqlserver import MARIADB_1011, MYSQL_84, ScriptedServer

from blockdiff.errors import LockLost, LockNotGranted
from blockdiff.mysql import connection, readlock
from blockdiff.mysql.account import Account


@pytest.mark.parametrize(
    "name, version, expected",
    [
        ("ftwrl", MARIADB_1011, "ftwrl"),
        ("auto", MARIADB_1011, "backup-stage"),
        ("auto", "10.3.39-MariaDB", "ftwrl"),
        ("auto", "10.4.0-MariaDB", "ftwrl"),
        ("auto", MYSQL_84, "ftwrl"),
        ("backup-stage", "10.4.1-MariaDB", "backup-stage"),
    ],
)
def test_the_method_fits_the_server(name, version, expected):
    release = connection.release_of(version)

    found = readlock.choose(name, version=version, mariadb="Maria" in version, release=release)

    assert found.name == expected


@pytest.mark.parametrize("version", ["10.4.0-MariaDB", MYSQL_84])
def test_backup_stage_is_refused_where_there_is_none(version):
    with pytest.raises(LockNotGranted, match=version):
        readlock.choose(
            "backup-stage", version=version, mariadb="Maria" in version, release=connection.release_of(version)
        )


def test_a_lock_is_held_from_take_to_release():
    lines = []
    with ScriptedServer(MARIADB_1011) as server:
        lock = readlock.ReadLock(Account("root", socket=server.path), log=lines.append)
        facts = lock.take()
        assert server.holder is not None and (facts["method"], facts["version"]) == ("ftwrl", MARIADB_1011)
        lock.prove()
        lock.release()
        lock.release()
        assert server.at_rest(5) and lock.facts["held_s"] >= 0
        with pytest.raises(LockLost):
            lock.prove()
    assert lines == ["issuing lock statement: FLUSH TABLES WITH READ LOCK", "issuing unlock statement: UNLOCK TABLES"]
