"""What a database lock is decided by: who is in the way, which account, which words."""

import pytest
from mysqlserver import MARIADB_1011, MYSQL_84, query

from blockdiff.errors import LockNotGranted
from blockdiff.mysql import connection, longqueries, optionfile, readlock, serverfacts
from blockdiff.mysql.account import Account, Tls, resolve


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

    found = longqueries.in_the_way(rows, own=1, older_than_s=2)

    assert [one.id for one in found] == [8, 10]
    assert "secret" not in str(found[0]) and str(found[0]) == "SELECT of web (thread 8), running for 99 s"
    assert {1, 7, 8, 9, 10} == {one.id for one in longqueries.in_the_way(rows, own=99, older_than_s=0)}


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
    assert said == ["waiting for a quiet moment: SELECT of web (thread 8), running for 99 s"]


def test_option_files_follow_the_clients_rules(tmp_path):
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "b.cnf").write_text("[client]\nuser = second\n")
    (tmp_path / "more" / "ignored.txt").write_text("[client]\nuser = third\n")
    (tmp_path / "one.cnf").write_text("[mysqllock]\nport=3307\n")
    (tmp_path / "my.cnf").write_text(
        "# comment\n; comment\n[mysqld]\nuser=mysql\n[client]\nuser=first\n"
        'password = "a#b\\"c" # comment\nssl_ca=/x y/ca.pem#comment\nssl\n'
        f"!includedir {tmp_path}/more\n!include one.cnf\n"
    )
    found = optionfile.read([tmp_path / "absent.cnf", tmp_path / "my.cnf"])

    expected = {"user": "second", "password": 'a#b"c', "ssl-ca": "/x y/ca.pem", "ssl": "", "port": "3307"}
    assert expected == found.values
    assert found.warnings == []


def test_an_option_file_that_everybody_may_write_is_not_read(tmp_path):
    path = tmp_path / "my.cnf"
    path.write_text("[client]\npassword=planted\n")
    path.chmod(0o666)

    found = optionfile.read([path])

    assert found.values == {}
    assert len(found.warnings) == 1


def test_option_files_that_include_each_other_end(tmp_path):
    path = tmp_path / "my.cnf"
    path.write_text("!include my.cnf\n[client]\nuser=me\n")

    assert optionfile.read([path]).values["user"] == "me"


OPTIONS = "user password host port socket db ssl ssl_ca ssl_cert ssl_key ssl_verify_server_cert"
NOTHING = dict.fromkeys(OPTIONS.split())


@pytest.mark.parametrize(
    "options, said, environment, expected",
    [
        ({}, {"socket": "/s"}, {"USER": "me"}, Account("me", socket="/s")),
        ({}, {"socket": "/s"}, {}, Account("root", socket="/s")),
        ({"user": "a"}, {"user": "b", "socket": "/s"}, {"USER": "c"}, Account("a", socket="/s")),
        ({"port": 3307}, {"socket": "/s"}, {}, Account("root", port=3307)),
        ({"host": "db00"}, {"socket": "/s", "port": "3308"}, {}, Account("root", host="db00", port=3308)),
        *(({}, {"socket": "/s", "protocol": tcp}, {}, Account("root")) for tcp in ("tcp", "TCP", "Tcp")),
        ({"host": "db00"}, {"password": "f"}, {"MYSQL_PWD": "e"}, Account("root", "f", "db00")),
        ({"host": "db00"}, {}, {"MYSQL_PWD": "e"}, Account("root", "e", "db00")),
        ({"host": "db00", "password": ""}, {"password": "f"}, {}, Account("root", "", "db00")),
        ({"host": "db00"}, {"ssl-ca": "/ca"}, {}, Account("root", host="db00", tls=Tls("/ca"))),
        ({"host": "h"}, {"ssl-mode": "REQUIRED"}, {}, Account("root", host="h", tls=Tls())),
        ({"host": "h"}, {"ssl-verify-server-cert": ""}, {}, Account("root", host="h", tls=Tls(verify=True))),
        ({"host": "h"}, {"ssl": "0"}, {}, Account("root", host="h")),
    ],
)
def test_options_go_before_files_and_files_before_the_environment(options, said, environment, expected):
    found = resolve({**NOTHING, **options}, said, environment)

    assert (expected.user, expected.password, expected.host) == (found.user, found.password, found.host)
    assert (expected.port, expected.socket, expected.tls) == (found.port, found.socket, found.tls)
    assert "f" not in repr(found).partition("password")[2].partition(",")[0]


@pytest.mark.parametrize(
    "version, expected",
    [("10.11.6-MariaDB-0+deb12u1", (10, 11, 6)), ("8.4.3", (8, 4, 3)), ("8.0", (8, 0, 0)), ("x", (0, 0, 0))],
)
def test_the_release_is_read_from_the_version(version, expected):
    assert expected == connection.release_of(version)


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


def test_every_folder_of_the_server_is_named_once_and_absolute():
    said = {
        "datadir": "/srv/db/",
        "innodb_data_home_dir": "",
        "innodb_log_group_home_dir": "./",
        "innodb_undo_directory": "../undo",
        "log_bin_basename": "/srv/log/bin",
    }

    assert serverfacts.directories(said) == ["/srv/db", "/srv/log", "/srv/undo"]
    assert serverfacts.directories({}) == []
