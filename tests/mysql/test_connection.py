"""What a connection knows of its server."""

import socket

import pytest
from mysqlserver import MARIADB_1011, ScriptedServer

from blockdiff.errors import LockUnreachable
from blockdiff.mysql import connection
from blockdiff.mysql.account import Account


@pytest.mark.parametrize(
    "version, expected",
    [("10.11.6-MariaDB-0+deb12u1", (10, 11, 6)), ("8.4.3", (8, 4, 3)), ("8.0", (8, 0, 0)), ("x", (0, 0, 0))],
)
def test_the_release_is_read_from_the_version(version, expected):
    assert expected == connection.release_of(version)


def test_an_open_connection_knows_its_server_and_its_errors():
    with ScriptedServer(MARIADB_1011, script={"SHOW GRANTS": "error", "SHOW MASTER STATUS": "drop"}) as server:
        link = connection.Connection(Account("root", socket=server.path), answer_s=5)
        assert (link.version, link.mariadb, link.release) == (MARIADB_1011, True, (10, 11, 6))
        link.ping()
        with pytest.raises(connection.ServerRefused) as refused:
            link.rows("SHOW GRANTS")
        assert refused.value.code
        link.ping()
        with pytest.raises(connection.ServerGone):
            link.rows("SHOW MASTER STATUS")
        with pytest.raises(connection.ServerGone):  # it never connects again by itself
            link.ping()
        link.close()


def test_a_server_that_cannot_be_reached():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(LockUnreachable, match=f"127.0.0.1:{port}"):
        connection.Connection(Account("root", host="127.0.0.1", port=port), answer_s=5)
