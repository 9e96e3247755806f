"""A database server that obeys a script.

`ScriptedServer` speaks the MySQL protocol on a unix socket, as MySQL 8.0, MySQL 8.4 or
MariaDB 10.11 would as far as a lock helper sees them, and keeps a global read lock with the
rules that matter here: it ends with its session, a session that is silent for wait_timeout
is ended, and a statement that waits does not notice that its client has gone.
"""

import contextlib
import os
import re
import shutil
import socket
import struct
import tempfile
import threading
import time

MYSQL_80 = "8.0.36"
MYSQL_84 = "8.4.3"
MARIADB_1011 = "10.11.6-MariaDB-log"
PROFILES = (MYSQL_80, MYSQL_84, MARIADB_1011)

LOCKS = ("FLUSH TABLES WITH READ LOCK", "BACKUP STAGE BLOCK_COMMIT")
UNLOCKS = ("UNLOCK TABLES", "BACKUP STAGE END")
# the names that a script may use for what are not statements
CONNECT, DATABASE, PING = "(connect)", "(database)", "(ping)"


class Refusal(Exception):
    """An error answer: code and text."""


class Dropped(Exception):
    """The session ends without an answer."""


class ScriptedServer:
    """A server that does as `script` says when a session comes to a step.

    `script` maps a step (the beginning of a statement, or CONNECT, DATABASE, PING) to
    "drop", "stall", "error" or a function; with a number N after a blank, as in
    "drop 2", it is the Nth time that counts. `hurry` divides wait_timeout.
    """

    def __init__(self, version=MYSQL_80, script=None, threads=(), hurry=1.0, tick=0.02):
        self.version = version
        self.mariadb = "MariaDB" in version
        self.binlog_words = "SHOW BINARY LOG STATUS" if version == MYSQL_84 else "SHOW MASTER STATUS"
        self.script = dict(script or {})
        self.threads = list(threads)  # rows of SHOW PROCESSLIST beside the asker's own
        self.hurry = hurry
        self.tick = tick
        self.uptime_s = 86400
        self.statements = []
        self.holder = None  # the session that holds the global lock
        self.pending = None  # the session that waits for it: everybody else waits behind it
        self.grants = ["GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost`"]
        self.problems = []
        self._seen = {}
        self._sessions = {}
        self._closing = threading.Event()
        self._mutex = threading.Lock()
        self._folder = tempfile.mkdtemp(prefix="scripted-")
        self.path = os.path.join(self._folder, "s")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen(16)
        self._workers = [threading.Thread(target=self._serve)]
        self._workers[0].start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for session in list(self._sessions.values()):
            session.end()
        for worker in self._workers:
            worker.join(10)
            assert not worker.is_alive()
        self._listener.close()
        shutil.rmtree(self._folder)
        assert self.problems == []

    def at_rest(self, within_s):
        """Return whether nobody holds the lock or waits for it, at the latest after a while."""
        deadline = time.monotonic() + within_s
        while self.holder is not None or self.pending is not None:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def issued(self, beginning):
        return [statement for statement in self.statements if statement.startswith(beginning)]

    def _serve(self):
        number = 10
        while not self._closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            number += 1
            session = _Session(self, connection, number)
            self._sessions[number] = session
            worker = threading.Thread(target=session.run)
            self._workers.append(worker)
            worker.start()

    def step(self, session, name, is_lock=False):
        """Do what the script wants at this step."""
        for key, action in self.script.items():
            wanted, _, nth = key.rpartition(" ") if key[-1].isdigit() else (key, "", "")
            if not name.startswith(wanted):
                continue
            with self._mutex:
                self._seen[key] = self._seen.get(key, 0) + 1
            if nth and self._seen[key] != int(nth):
                continue
            if callable(action):
                action()
            elif action == "drop":
                raise Dropped
            elif action == "error":
                raise Refusal(1227, "Access denied; scripted")
            elif action.startswith("stall"):
                self._stall(session, action, is_lock)

    def _stall(self, session, action, is_lock):
        limit_s = None
        if is_lock:
            self.pending = session.number
            if action != "stall for ever":
                limit_s = session.variables.get("lock_wait_timeout", 3600)
        begun = time.monotonic()
        try:
            while not session.killed.is_set():
                if limit_s is not None and time.monotonic() - begun >= limit_s:
                    raise Refusal(1205, "Lock wait timeout exceeded; try restarting transaction")
                time.sleep(self.tick)
            raise Dropped
        finally:
            if is_lock:
                self.pending = None

    def kill(self, number):
        if number not in self._sessions:
            raise Refusal(1094, "Unknown thread id")
        self._sessions[number].end()


class _Session:
    def __init__(self, server, connection, number):
        self.server, self.connection, self.number = server, connection, number
        self.killed = threading.Event()
        self.variables = {"wait_timeout": 28800.0}

    def end(self):
        self.killed.set()
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def run(self):
        try:
            self.server.step(self, CONNECT)
            self._greet()
            while self._command():
                pass
        except (Dropped, OSError, EOFError):
            pass
        except Refusal as refusal:
            with contextlib.suppress(OSError):
                self._send(0, _error(*refusal.args))
        except BaseException as error:  # whatever it is, the test must hear of it
            self.server.problems.append(repr(error))
        finally:
            if self.server.holder == self.number:
                self.server.holder = None
            self.connection.close()

    def _greet(self):
        flags = 0x00FFF7FF & ~0x0800 & ~0x01000000  # neither TLS nor the newer end of rows
        self._send(
            0,
            b"\x0a" + self.server.version.encode() + b"\0" + struct.pack("<I", self.number) + b"12345678\0"
            + struct.pack("<HBHH", flags & 0xFFFF, 45, 2, flags >> 16) + b"\x15" + b"\0" * 10
            + b"abcdefghijkl\0" + b"mysql_native_password\0",
        )  # fmt: skip
        sequence, _ = self._receive()
        self._send(sequence + 1, _OK)

    def _command(self):
        self.connection.settimeout(self.variables["wait_timeout"] / self.server.hurry)
        sequence, packet = self._receive()
        self.connection.settimeout(None)
        kind, text = packet[0], packet[1:].decode()
        if kind == 1:
            return False
        try:
            if kind == 2:
                self.server.step(self, DATABASE)
                answer = [_OK]
            elif kind == 14:
                self.server.step(self, PING)
                answer = [_OK]
            else:
                answer = self._query(text)
        except Refusal as refusal:
            answer = [_error(*refusal.args)]
        for position, payload in enumerate(answer, sequence + 1):
            self._send(position, payload)
        return True

    def _query(self, text):
        server = self.server
        server.statements.append(text)
        server.step(self, text, is_lock=text in LOCKS)
        if text.startswith("BACKUP") and not server.mariadb:
            raise Refusal(1064, "You have an error in your SQL syntax")
        if text.startswith(("SHOW MASTER", "SHOW BINARY")) and text != server.binlog_words:
            raise Refusal(1064, "You have an error in your SQL syntax")
        if text in LOCKS:
            assert server.holder is None
            server.holder = self.number
        elif text in UNLOCKS:
            if server.holder == self.number:
                server.holder = None
        elif text.startswith("SET SESSION"):
            for name, value in re.findall(r"(\w+) = ([\d.]+)", text):
                if name == "max_statement_time" and not server.mariadb:
                    raise Refusal(1193, "Unknown system variable 'max_statement_time'")
                self.variables[name] = float(value)
        elif text.startswith("KILL QUERY "):
            number = int(text.split()[-1])
            server.threads = [row for row in server.threads if row[0] != number]
        elif text.startswith("KILL "):
            server.kill(int(text.split()[-1]))
        elif text.startswith(("SELECT", "SHOW")):
            return _rows(*self._table(text))
        return [_OK]

    def _table(self, text):
        server = self.server
        if text.startswith("SELECT @@version"):
            return ("version", "id"), [(server.version, self.number)]
        if text.startswith("SELECT @@GLOBAL.gtid"):
            assert ("binlog_pos" in text) == server.mariadb
            return ("gtid",), [("0-1-77" if server.mariadb else "uuid-a:1-5,\nuuid-b:1-7",)]
        if text.startswith("SELECT CURRENT_USER()"):
            return ("account",), [("root@localhost",)]
        if text.startswith("SHOW GRANTS"):
            return ("Grants for root@localhost",), [(grant,) for grant in server.grants]
        if text.startswith("SHOW STATUS LIKE 'Ssl_cipher'"):
            return ("Variable_name", "Value"), [("Ssl_cipher", "")]
        if text.startswith("SHOW GLOBAL STATUS LIKE 'Uptime'"):
            return ("Variable_name", "Value"), [("Uptime", server.uptime_s)]
        if text.startswith("SHOW GLOBAL VARIABLES"):
            known = {"hostname": "db00", "port": "3306", "datadir": "/srv/db/", "pid_file": "db00.pid"}
            known.update(innodb_log_group_home_dir="./", log_bin_basename="/srv/log/bin")
            return ("Variable_name", "Value"), list(known.items())
        if text.startswith("SHOW PROCESSLIST"):
            names = ("Id", "User", "Host", "db", "Command", "Time", "State", "Info")
            own = (self.number, "root", "localhost", None, "Query", 0, "starting", text)
            return names, [own, *server.threads]
        assert text in ("SHOW MASTER STATUS", "SHOW BINARY LOG STATUS"), text
        return ("File", "Position", "Binlog_Do_DB"), [("bin.000007", 4711, "")]

    def _receive(self):
        header = self._exactly(4)
        return header[3], self._exactly(int.from_bytes(header[:3], "little"))

    def _exactly(self, count):
        data = b""
        while len(data) < count:
            piece = self.connection.recv(count - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    def _send(self, sequence, payload):
        self.connection.sendall(len(payload).to_bytes(3, "little") + bytes([sequence & 255]) + payload)


_OK = b"\0\0\0\x02\0\0\0"
_END_OF_ROWS = b"\xfe\0\0\x02\0"


def _error(code, text):
    return b"\xff" + struct.pack("<H", code) + b"#HY000" + text.encode()


def _string(value):
    if value is None:
        return b"\xfb"
    data = value if isinstance(value, bytes) else str(value).encode()
    return (bytes([len(data)]) if len(data) < 251 else b"\xfc" + struct.pack("<H", len(data))) + data


def _rows(names, rows):
    columns = [
        b"\x03def\0\0\0" + _string(name) + b"\0\x0c" + struct.pack("<HIBHBH", 45, 255, 253, 0, 0, 0)
        for name in names
    ]
    lines = [b"".join(_string(value) for value in row) for row in rows]
    return [bytes([len(names)]), *columns, _END_OF_ROWS, *lines, _END_OF_ROWS]


def query(number, age_s, info="UPDATE t SET n = 1", user="web", command="Query"):
    """Return a row of the list of threads; text as bytes is sent as it is."""
    return (number, user, "host", "shop", command, age_s, "updating", info)
