"""mysqllock against a real MariaDB: writers at work, locks that hold, credentials that stay ours."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from mariadbserver import MISSING, MariaDB
from mysqllocks import MYSQLLOCK, environ, facts, mysqllock, start
from programs import until

from blockdiff.locking import lockcommand

SECRET = "s3cret-w0rd"
pytestmark = pytest.mark.skipif(MISSING is not None, reason=f"{MISSING} is not installed")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Return a folder with ca.pem, other.pem, and server.pem for 127.0.0.1."""
    folder = tmp_path_factory.mktemp("tls")
    folder.chmod(0o755)

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], check=True, cwd=folder, capture_output=True)

    key = ("-newkey", "rsa:2048", "-nodes", "-days", "2")
    for name in ("ca", "other"):
        openssl("req", "-x509", *key, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem")
    openssl("req", *key[:3], "-subj", "/CN=db", "-keyout", "server.key", "-out", "server.csr")
    (folder / "san").write_text("subjectAltName=IP:127.0.0.1\n")
    openssl(
        "x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
        "-days", "2", "-extfile", "san", "-out", "server.pem",
    )  # fmt: skip
    (folder / "server.key").chmod(0o644)
    return folder


@pytest.fixture(scope="module")
def mariadb(certificates):
    # pytest's own folders are closed to the server's account
    public = tempfile.mkdtemp(prefix="tls-")
    os.chmod(public, 0o755)
    server = None
    try:
        for name in ("ca.pem", "server.pem", "server.key"):
            shutil.copy(certificates / name, public)
        tls = [f"--ssl-{kind}={public}/{name}" for kind, name in (("ca", "ca.pem"), ("cert", "server.pem"))]
        server = MariaDB(*tls, f"--ssl-key={public}/server.key")
        server.do("CREATE DATABASE shop")
        for engine in ("InnoDB", "MyISAM", "Aria"):
            server.do(f"CREATE TABLE shop.{engine} (id INT PRIMARY KEY, n INT) ENGINE={engine}")
            server.do(f"INSERT INTO shop.{engine} SELECT seq, 0 FROM shop.seq_1_to_20")
        server.do(f"CREATE USER backup@'%' IDENTIFIED BY '{SECRET}'")
        server.do("GRANT RELOAD, PROCESS, BINLOG MONITOR ON *.* TO backup@'%'")
        server.do(f"CREATE USER killer@localhost IDENTIFIED BY '{SECRET}'")
        server.do("GRANT RELOAD, PROCESS, BINLOG MONITOR, CONNECTION ADMIN ON *.* TO killer@localhost")
        server.do(f"CREATE USER blind@localhost IDENTIFIED BY '{SECRET}'")
        server.do("GRANT RELOAD ON *.* TO blind@localhost")
        server.do(f"CREATE USER encrypted@'%' IDENTIFIED BY '{SECRET}' REQUIRE SSL")
        server.do("GRANT RELOAD, PROCESS, BINLOG MONITOR ON *.* TO encrypted@'%'")
        yield server
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(public)


class Writer:
    """Somebody at work: autocommitted updates, one after the other, as fast as they go."""

    def __init__(self, server, table="shop.InnoDB"):
        self.done = 0
        self.longest_s = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(server, table))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()

    def _work(self, server, table):
        with contextlib.closing(server.connect()) as connection, connection.cursor() as cursor:
            while not self._stop.is_set():
                begun = time.monotonic()
                cursor.execute(f"UPDATE {table} SET n = n + 1 WHERE id = 20")
                self.longest_s = max(self.longest_s, time.monotonic() - begun)
                self.done += 1


@contextlib.contextmanager
def long_update(server):
    """Keep a table's first rows under an UPDATE that takes twenty seconds, until the with ends."""
    connection = server.connect()
    thread = connection.thread_id()

    def work():
        with contextlib.suppress(Exception), connection.cursor() as cursor:
            cursor.execute("UPDATE shop.Aria SET n = n + 1 + SLEEP(1)")

    worker = threading.Thread(target=work)
    worker.start()
    try:
        running = f"SELECT 1 FROM information_schema.processlist WHERE id={thread} AND time_ms > 900"
        until(lambda: server.do(running))
        yield worker
    finally:
        with contextlib.suppress(Exception):
            server.do(f"KILL {thread}")
        worker.join(30)
        connection.close()


JAPANESE = "日本語" * 30
TEXTS = (
    ("utf8mb4", JAPANESE.encode()), ("latin1", ("é" * 90).encode("latin1")), ("sjis", JAPANESE.encode("sjis")),
    ("cp932", JAPANESE.encode("cp932")), ("utf8mb4", bytes(range(128, 256)) * 2),
)  # fmt: skip


def test_statements_that_are_shown_cut_inside_a_character_are_no_obstacle(mariadb, tmp_path):
    """The list of threads cuts them at 100 bytes, and shows the bytes of a BLOB in them as they are."""
    statements = [(charset, b"SELECT SLEEP(20), _binary'%s%s'" % (b"x" * n, text)) for charset, text in TEXTS for n in (0, 1)]
    with mariadb.running(statements, "SELECT SLEEP(20)"):
        assert mysqllock(tmp_path, f"--socket={mariadb.socket}", "--wait-query=600", "true")[0] == 0
        waiting = ("--wait-query=0", "--wait-timeout=0")
        code, _, err = mysqllock(tmp_path, f"--socket={mariadb.socket}", *waiting, "true")

    assert code == 41
    assert "SELECT of root" in err and "Traceback" not in err


TRY_TO_WRITE = """
import pymysql, sys
for table in ("InnoDB", "MyISAM", "Aria"):
    connection = pymysql.connect(unix_socket=sys.argv[1], user="root", autocommit=True)
    cursor = connection.cursor()
    cursor.execute("SET SESSION lock_wait_timeout = 1, innodb_lock_wait_timeout = 1")
    try:
        cursor.execute("UPDATE shop.%s SET n = n + 1 WHERE id = 1" % table)
        print(table, "written")
    except pymysql.err.OperationalError as error:
        print(table, error.args[0])
    cursor.execute("SELECT COUNT(*) FROM shop.%s" % table)
"""


@pytest.mark.parametrize("method", ["ftwrl", "backup-stage"])
def test_writers_of_every_engine_wait_while_the_command_runs_and_not_after_it(mariadb, tmp_path, method):
    arguments = (f"--socket={mariadb.socket}", f"--method={method}")
    script = [sys.executable, "-c", TRY_TO_WRITE, mariadb.socket]

    code, out, err = mysqllock(tmp_path, *arguments, *script)

    assert (code, out) == (0, "InnoDB 1205\nMyISAM 1205\nAria 1205\n"), err
    after = subprocess.run(script, check=True, capture_output=True, text=True)
    assert after.stdout == "InnoDB written\nMyISAM written\nAria written\n"


@pytest.mark.parametrize("method", ["ftwrl", "backup-stage"])
def test_the_position_is_where_the_binary_log_stands_while_locked(mariadb, tmp_path, method):
    look = "import os, pymysql, sys; c = pymysql.connect(unix_socket=sys.argv[1], user='root').cursor()\n"
    look += "c.execute('SHOW MASTER STATUS'); print(c.fetchone()[:2])\n"
    look += "c.execute('SELECT @@GLOBAL.gtid_binlog_pos'); print(c.fetchone())\n"
    look += "print('BLOCKDIFF_LOCK=' + os.environ['BLOCKDIFF_LOCK'])"
    arguments = (f"--socket={mariadb.socket}", f"--method={method}")

    with Writer(mariadb) as writer:
        until(lambda: writer.done >= 10)
        code, out, err = mysqllock(tmp_path, *arguments, sys.executable, "-c", look, mariadb.socket)
        done = writer.done
        until(lambda: writer.done >= done + 10)

    said = facts(out)
    assert code == 0, err
    file, position, gtid = said["binlog"]["file"], said["binlog"]["position"], said["gtid"]
    assert [str((file, position)), str((gtid,))] == out.splitlines()[:2]
    assert str(mariadb.datadir) == said["datadir"]
    assert Path(said["pid_file"]).read_text().strip() == str(mariadb._process.pid)


@pytest.mark.parametrize("method", ["ftwrl", "backup-stage"])
def test_a_backup_holds_the_lock_through_the_gate_until_the_snapshot_stands(
    mariadb, tmp_path, method, monkeypatch
):
    for name, value in environ(tmp_path).items():
        monkeypatch.setenv(name, value)
    command = [*MYSQLLOCK, f"--socket={mariadb.socket}", f"--method={method}"]
    with Writer(mariadb) as writer, lockcommand.locked(command, log=print) as lock:
        written = writer.done
        status = mariadb.do("SHOW MASTER STATUS")[0]
        time.sleep(0.3)
        # one was under way when the lock was granted; where it stood, it stands
        assert writer.done <= written + 1
        assert mariadb.do("SHOW MASTER STATUS")[0] == status
        lock.release()
        until(lambda: writer.done >= written + 10)

    assert (lock.facts["method"], lock.facts["server"].rpartition(":")[2]) == (method, str(mariadb.port))
    assert (lock.facts["binlog"]["file"], lock.facts["binlog"]["position"]) == status[:2]
    assert lock.facts["held_s"] >= 0.3


def test_with_a_long_update_in_the_way_no_lock_is_asked_for(mariadb, tmp_path):
    arguments = (f"--socket={mariadb.socket}", "--wait-query=1", "--wait-timeout=2")
    with long_update(mariadb) as update, Writer(mariadb) as writer:
        code, _, err = mysqllock(tmp_path, *arguments, "true")
        assert update.is_alive()
        assert writer.done > 0

    assert code == 41
    assert "issuing lock statement" not in err
    assert "UPDATE of root" in err


def test_a_lock_that_is_not_granted_gives_way_to_the_writers(mariadb, tmp_path):
    arguments = (f"--socket={mariadb.socket}", "--wait-query=600", "--lock-timeout=1")
    with long_update(mariadb) as update, Writer(mariadb) as writer:
        code, _, err = mysqllock(tmp_path, *arguments, "true")
        assert update.is_alive()
        done = writer.done
        until(lambda: writer.done >= done + 10)

    assert code == 41, err
    assert "issuing lock statement" in err
    # stalled, for the lock's own second; the rest is for a slow machine. The update takes twenty
    assert writer.longest_s < 1 + 4


def test_a_long_update_is_killed_when_asked_to(mariadb, tmp_path):
    arguments = (f"--socket={mariadb.socket}", "--wait-query=1", "--wait-timeout=0.5", "--kill-long-queries")
    account = ("--user=killer", f"--password={SECRET}")
    with long_update(mariadb) as update:
        code, _, err = mysqllock(tmp_path, *arguments, *account, "true")
        update.join(10)
        assert not update.is_alive()

    assert code == 0, err
    assert "killing UPDATE of root" in err


@pytest.mark.parametrize("method", ["ftwrl", "backup-stage"])
def test_killed_it_leaves_the_real_server_unlocked(mariadb, tmp_path, method):
    arguments = (f"--socket={mariadb.socket}", f"--method={method}", "sh", "-c", "echo $$; exec sleep 60")
    with start(tmp_path, *arguments) as process:
        child = int(process.stdout.readline())
        try:
            with Writer(mariadb) as writer:
                time.sleep(0.5)
                assert writer.done == 0
                process.kill()
                process.wait()
                until(lambda: writer.done >= 10)
        finally:
            process.kill()
            os.kill(child, signal.SIGKILL)


def test_killed_while_it_waits_for_the_lock_it_stalls_nobody_for_longer_than_that(mariadb, tmp_path):
    arguments = (f"--socket={mariadb.socket}", "--wait-query=600", "--lock-timeout=2", "true")
    waiting = "SELECT 1 FROM information_schema.processlist WHERE info LIKE 'FLUSH TABLES WITH%'"
    with long_update(mariadb) as update, start(tmp_path, *arguments) as process:
        until(lambda: mariadb.do(waiting))
        process.kill()
        process.communicate()
        with Writer(mariadb) as writer:
            until(lambda: writer.done >= 10)
            assert update.is_alive()
            assert mariadb.do(waiting) == ()


def test_the_real_server_dying_under_the_command_is_noticed(mariadb, tmp_path):
    arguments = (f"--socket={mariadb.socket}", "sh", "-c", "echo ready; read go")
    try:
        with start(tmp_path, *arguments, stdin=subprocess.PIPE) as process:
            process.stdout.readline()
            mariadb.kill()
            _, err = process.communicate("go\n", timeout=30)
    finally:
        mariadb.start()

    assert process.returncode == 42, err
    assert "the lock was lost" in err


LOOK_FOR_SECRET = (
    "import glob, os, sys\n"
    "for path in glob.glob('/proc/[0-9]*/cmdline'):\n"
    "    try: text = open(path, 'rb').read()\n"
    "    except OSError: continue\n"
    "    if b'cr3t-w0rd'.replace(b'cr3t', b'cret') in text: print('seen in', path, text)\n"
    "print('in the environment' if any('cret-w0rd' in v for v in os.environ.values()) else 'looked')\n"
    "print(sorted(os.listdir('/proc/self/fd'), key=int)[:4])\n"
)


def test_a_password_on_the_command_line_is_not_seen_while_the_command_runs(mariadb, tmp_path):
    script = tmp_path / "look.py"
    script.write_text(LOOK_FOR_SECRET)
    for option in ([f"--password={SECRET}"], ["--password", SECRET]):
        arguments = ("--host=127.0.0.1", f"--port={mariadb.port}", "--user=backup", *option)

        code, out, err = mysqllock(tmp_path, *arguments, sys.executable, str(script))

        assert code == 0, err
        assert out == "looked\n['0', '1', '2', '3']\n"  # 3 is the listing itself: no pipe of ours
        assert "cret-w0rd" not in err


def test_a_wrong_password_is_refused_and_not_repeated(mariadb, tmp_path):
    arguments = ("--host=127.0.0.1", f"--port={mariadb.port}", "--user=backup", "--password=wr0ng-word")

    code, out, err = mysqllock(tmp_path, *arguments, "true")

    assert code == 40
    assert "Access denied" in err and "wr0ng" not in out + err


def test_option_files_and_mysql_pwd_serve_in_place_of_options(mariadb, tmp_path):
    login = f"[client]\nuser=backup\npassword={SECRET}\nhost=127.0.0.1\nport={mariadb.port}\n"
    (tmp_path / "own.cnf").write_text(login)

    assert mysqllock(tmp_path, f"--defaults-file={tmp_path}/own.cnf", "true")[0] == 0
    where = ("--host=127.0.0.1", f"--port={mariadb.port}", "--user=backup")
    assert mysqllock(tmp_path, *where, "true")[0] == 40
    assert mysqllock(tmp_path, *where, "true", env={"MYSQL_PWD": SECRET})[0] == 0
    (tmp_path / ".my.cnf").write_text(login)
    assert mysqllock(tmp_path, "true")[0] == 0


def test_an_account_with_reload_alone_is_enough_and_says_what_it_cannot_see(mariadb, tmp_path):
    arguments = (f"--socket={mariadb.socket}", "--user=blind", "env")

    code, out, err = mysqllock(tmp_path, *arguments, env={"MYSQL_PWD": SECRET})

    assert code == 0, err
    assert "PROCESS privilege" in err and "position of the binary log is not known" in err
    assert facts(out)["binlog"] is None


@pytest.mark.parametrize("method", ["ftwrl", "backup-stage"])
def test_an_account_that_may_not_lock_is_refused_and_told_what_it_lacks(mariadb, tmp_path, method):
    mariadb.do(f"CREATE OR REPLACE USER nobody@localhost IDENTIFIED BY '{SECRET}'")
    arguments = (f"--socket={mariadb.socket}", "--user=nobody", f"--method={method}", "true")

    code, _, err = mysqllock(tmp_path, *arguments, env={"MYSQL_PWD": SECRET})

    grant = re.search("RELOAD.*grant the privilege: (GRANT RELOAD ON .*)", err)
    assert code == 41 and grant, err
    assert "issuing unlock statement" not in err  # nothing was locked
    mariadb.do(grant[1])
    assert mysqllock(tmp_path, *arguments, env={"MYSQL_PWD": SECRET})[0] == 0


def test_tls_options_prove_the_server(mariadb, certificates, tmp_path):
    def code(host, *options):
        arguments = (f"--host={host}", f"--port={mariadb.port}", "--user=encrypted", *options, "true")
        return mysqllock(tmp_path, *arguments, env={"MYSQL_PWD": SECRET})[0]

    ca, other = (f"--ssl-ca={certificates}/{name}.pem" for name in ("ca", "other"))
    assert code("127.0.0.1", "--ssl") == 0
    assert code("127.0.0.1", ca) == 0
    assert code("127.0.0.1", other) == 40
    assert code("127.0.0.1", ca, "--ssl-verify-server-cert") == 0
    assert code("localhost", ca) == 0
    assert code("localhost", ca, "--ssl-verify-server-cert") == 40  # the certificate is 127.0.0.1's
    assert code("127.0.0.1", "--ssl-verify-server-cert") == 40  # nobody that the system trusts
    assert code("127.0.0.1", f"--ssl-ca={certificates}/no-such-file.pem") == 40
