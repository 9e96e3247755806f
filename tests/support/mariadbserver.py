"""A real MariaDB of a test's own."""

import concurrent.futures
import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pymysql
from programs import until

MISSING = next((name for name in ("mariadbd", "mariadb-install-db") if shutil.which(name) is None), None)


class MariaDB:
    """A real MariaDB server of the test's own: a folder, a socket, a port on the loopback."""

    def __init__(self, *options):
        self.folder = Path(tempfile.mkdtemp(prefix="mariadb-"))
        self.datadir = self.folder / "data"
        self.socket = str(self.folder / "s")
        self._options = options
        self._process = None
        user = ()
        if os.geteuid() == 0:
            shutil.chown(self.folder, "mysql")
            self.folder.chmod(0o711)
            user = ("--user=mysql",)
        self._user = user
        try:
            subprocess.run(
                [
                    "mariadb-install-db",
                    "--no-defaults",
                    *user,
                    f"--datadir={self.datadir}",
                    "--auth-root-authentication-method=normal",
                    "--skip-test-db",
                ],
                check=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.port = free.getsockname()[1]
            self.start()
        except BaseException:
            self.stop()
            raise

    def start(self):
        log = self.folder / "log"
        with open(log, "ab") as output:
            self._process = subprocess.Popen(
                [
                    "mariadbd",
                    "--no-defaults",
                    *self._user,
                    f"--datadir={self.datadir}",
                    f"--socket={self.socket}",
                    f"--port={self.port}",
                    f"--pid-file={self.datadir}/pid",
                    "--bind-address=127.0.0.1",
                    "--log-bin=bin",
                    "--innodb-buffer-pool-size=16M",
                    "--performance-schema=OFF",
                    *self._options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        for _ in range(600):
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as door:
                door.connect(self.socket)  # pymysql leaves its socket open when this fails
                self.connect().close()
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.1)
        raise RuntimeError(f"mariadbd does not start: {log.read_text()[-2000:]}")

    def connect(self, **options):
        arguments = {"unix_socket": self.socket, "user": "root", "autocommit": True, "ssl_disabled": True}
        return pymysql.connect(**{**arguments, **options})

    def do(self, statement):
        with contextlib.closing(self.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall()

    @contextlib.contextmanager
    def running(self, statements, beginning):
        """Keep statements, each a character set and bytes that begin so, running until the with ends."""
        connections = [self.connect(charset=charset) for charset, _ in statements]

        def work(connection, statement):
            with contextlib.suppress(Exception), connection.cursor() as cursor:
                cursor.execute(statement)

        with concurrent.futures.ThreadPoolExecutor(len(statements)) as pool:
            try:
                for connection, (_, statement) in zip(connections, statements, strict=True):
                    pool.submit(work, connection, statement)
                listed = f"SELECT 1 FROM information_schema.processlist WHERE info LIKE '{beginning}%'"
                until(lambda: len(self.do(listed)) == len(statements))
                yield
            finally:
                for connection in connections:
                    with contextlib.suppress(Exception):
                        self.do(f"KILL {connection.thread_id()}")
        for connection in connections:
            connection.close()

    def kill(self):
        self._process.kill()
        self._process.wait()

    def stop(self):
        if self._process is not None and self._process.poll() is None:
            self.kill()  # nothing in it is worth an orderly end
        shutil.rmtree(self.folder, ignore_errors=True)
