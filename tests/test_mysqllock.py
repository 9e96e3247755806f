"""mysqllock against a scripted server: the order of things, and what is said of them."""

import re

import pytest
from mysqllocks import facts, mysqllock, start
from mysqlserver import DATABASE, MARIADB_1011, MYSQL_80, MYSQL_84, PROFILES, Refusal, ScriptedServer, query
from programs import until


@pytest.fixture
def scripted(tmp_path):
    """Return a function that runs mysqllock against a scripted server: (server, code, out, err)."""

    def run(*arguments, version=MYSQL_80, prepare=lambda server: None, **server_options):
        with ScriptedServer(version, **server_options) as server:
            prepare(server)
            code, out, err = mysqllock(tmp_path, f"--socket={server.path}", *arguments)
            assert server.at_rest(5)
        return server, code, out, err

    return run


@pytest.mark.parametrize("version", PROFILES)
def test_the_lock_is_held_while_the_command_runs_and_gone_after_it(scripted, version):
    server, code, out, err = scripted("env", version=version)

    mariadb = version == MARIADB_1011
    said = facts(out)
    assert code == 0
    assert ("ftwrl", version, "db00:3306") == (said["method"], said["version"], said["server"])
    assert said["binlog"] == {"file": "bin.000007", "position": 4711}
    assert ("0-1-77" if mariadb else "uuid-a:1-5,uuid-b:1-7") == said["gtid"]
    assert (said["datadir"], said["pid_file"]) == ("/srv/db", "/srv/db/db00.pid")
    assert said["directories"] == ["/srv/db", "/srv/log"]
    assert err.splitlines() == [
        "issuing lock statement: FLUSH TABLES WITH READ LOCK",
        "issuing unlock statement: UNLOCK TABLES",
    ]
    # MySQL 8.4 is not asked in words it does not know any more, the others not in newer ones
    assert ["SHOW BINARY LOG STATUS" if version == MYSQL_84 else "SHOW MASTER STATUS"] == [
        statement for statement in server.statements if statement.endswith(" STATUS")
    ]


@pytest.mark.parametrize(
    "version, words", [(MYSQL_84, "SHOW MASTER STATUS"), (MYSQL_80, "SHOW BINARY LOG STATUS")]
)
def test_the_other_words_are_tried_where_the_expected_ones_are_not_known(scripted, version, words):
    _, code, out, _ = scripted("env", version=version, prepare=lambda s: setattr(s, "binlog_words", words))

    assert (code, facts(out)["binlog"]["position"]) == (0, 4711)


def test_backup_stages_are_issued_in_their_order(scripted):
    _, code, out, err = scripted("--method=auto", "env", version=MARIADB_1011)

    assert (code, facts(out)["method"]) == (0, "backup-stage")
    assert [line.partition(": ")[2] for line in err.splitlines()] == [
        "BACKUP STAGE START",
        "BACKUP STAGE BLOCK_COMMIT",
        "BACKUP STAGE END",
    ]


def test_backup_stage_on_mysql_is_refused_before_anything_is_locked(scripted):
    server, code, _, err = scripted("--method=backup-stage", "true", version=MYSQL_84)

    assert (code, server.issued("FLUSH")) == (41, [])
    assert "MariaDB 10.4.1" in err


def test_before_and_after_take_statements(scripted):
    statements = ("--before=LOCK TABLES t READ", "--after", "UNLOCK TABLES /* mine */")
    server, code, _, err = scripted(*statements, "true")

    assert code == 0
    assert "issuing lock statement: LOCK TABLES t READ" in err
    assert "issuing unlock statement: UNLOCK TABLES /* mine */" in err
    assert 1 == len(server.issued("LOCK TABLES t READ")) == len(server.issued("UNLOCK TABLES /* mine */"))


def test_before_does_not_go_with_a_method(scripted):
    assert scripted("--method=auto", "--before=LOCK TABLES t READ", "true")[1] == 2


@pytest.mark.parametrize("script, expected", [("exit 7", 7), ("kill -9 $$", 137), ("kill -15 $$", 143)])
def test_the_exit_code_is_the_commands(scripted, script, expected):
    assert expected == scripted("sh", "-c", script)[1]


def test_a_command_that_is_not_there_is_noticed_before_the_lock(scripted):
    server, code, _, err = scripted("/no/such/program")

    assert (code, server.statements) == (16, [])
    assert "/no/such/program" in err


def test_tls_that_was_asked_for_is_never_done_without(scripted):
    server, code, _, err = scripted("--ssl", "true")

    assert (code, server.issued("FLUSH")) == (40, [])
    assert re.search("SSL|TLS", err)


def test_no_lock_is_asked_for_while_a_query_is_running(scripted):
    server, code, _, err = scripted("--wait-timeout=0.3", "true", threads=[query(5, 30)])

    assert (code, server.issued("FLUSH")) == (41, [])
    assert "UPDATE of web (thread 5), running for 30 s" in err


def test_the_lock_is_asked_for_as_soon_as_the_query_has_ended(tmp_path):
    with ScriptedServer(threads=[query(5, 30)]) as server:
        with start(tmp_path, f"--socket={server.path}", "true") as process:
            until(lambda: server.issued("SHOW PROCESSLIST"))
            assert server.issued("FLUSH") == []
            server.threads = []
            process.communicate(timeout=30)
        assert process.returncode == 0


def test_long_queries_are_killed_only_when_asked_to(scripted):
    arguments = ("--wait-timeout=0.3", "--kill-long-queries", "true")
    server, code, _, err = scripted(*arguments, threads=[query(5, 30), query(6, 0)])

    assert (code, server.issued("KILL")) == (0, ["KILL QUERY 5"])
    assert "killing UPDATE of web (thread 5)" in err


def test_a_query_that_cannot_be_killed_is_not_locked_against(scripted):
    arguments = ("--wait-timeout=0.3", "--lock-timeout=0.3", "--kill-long-queries", "true")
    server, code, _, err = scripted(*arguments, threads=[query(5, 30)], script={"KILL": "error"})

    assert (code, server.issued("FLUSH")) == (41, [])
    assert "thread 5 was not killed" in err


CUT = b"UPDATE t SET text = '" + "日本語".encode() * 10


@pytest.mark.parametrize("user", ["web", b"w\xe9b"], ids=["web", "latin1"])
@pytest.mark.parametrize(
    "info",
    [*(CUT[:length] for length in (22, 23, 40, 41)), bytes(range(1, 256)), b"\xff" * 100],
    ids=["one byte", "two bytes", "later, one", "later, two", "every byte", "no text at all"],
)
def test_a_statement_that_is_no_text_is_waited_for_like_any(scripted, info, user):
    server, code, _, err = scripted("--wait-timeout=0", "true", threads=[query(5, 30, info=info, user=user)])

    assert (code, server.issued("FLUSH")) == (41, [])
    assert " of w" in err and "(thread 5), running for 30 s" in err
    assert all(letter.isprintable() for letter in err.replace("\n", ""))


def test_without_the_process_privilege_it_says_that_it_is_blind(scripted):
    def prepare(server):
        server.grants = ["GRANT RELOAD ON *.* TO `me`@`%`", "GRANT ALL PRIVILEGES ON `shop`.* TO `me`@`%`"]

    _, code, _, err = scripted("true", prepare=prepare)

    assert code == 0
    assert "PROCESS privilege" in err


@pytest.mark.parametrize("step", ["SHOW MASTER STATUS", "SELECT @@GLOBAL.gtid"])
def test_a_position_that_may_not_be_asked_for_is_only_a_warning(scripted, step):
    _, code, out, err = scripted("env", script={step: "error"})

    assert (code, facts(out)["binlog" if "MASTER" in step else "gtid"]) == (0, None)
    assert "is not known: Access denied" in err


def test_the_default_database_is_only_used_where_it_may_be(scripted):
    class Denied:
        def __call__(self):
            raise Refusal(1044, "Access denied for user to database 'mysql'")

    assert scripted("true", script={DATABASE: Denied()})[1] == 0
    assert scripted("--db=mysql", "true", script={DATABASE: Denied()})[1] == 40


@pytest.mark.parametrize("step", ["(connect)", "SHOW GLOBAL", "SHOW MASTER STATUS", "FLUSH"])
def test_what_a_server_says_steers_no_terminal(scripted, step):
    def refuse():
        raise Refusal(1227, "Access \x07 denied\nbackup completed successfully")

    _, _, _, err = scripted("true", script={step: refuse})

    lines = err.splitlines()
    assert [line for line in lines if "denied" in line]
    assert all(line.isprintable() and not line.startswith("backup completed") for line in lines)


@pytest.mark.parametrize("option", ["--pasword=s3cret", "-ps3cret", "--no-such=s3cret", "--user=me -ps3cret"])
def test_a_password_behind_an_option_that_there_is_not_is_not_repeated(scripted, option):
    _, code, out, err = scripted(*option.split(), "true")

    assert code == 2 and "s3cret" not in out + err
