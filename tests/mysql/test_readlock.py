"""Which kind of lock fits a server."""

import pytest
from mysqlserver import MARIADB_1011, MYSQL_84

from blockdiff.errors import LockNotGranted
from blockdiff.mysql import connection, readlock


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
