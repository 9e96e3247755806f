"""A MariaDB or MySQL server on a clone: it reaches nobody, runs no events, and asks nobody for a password."""

import contextlib
import os
import re
import shutil
import subprocess

from blockdiff.drilling.server import Problem, Server
from blockdiff.errors import LockUnreachable
from blockdiff.mysql.account import Account
from blockdiff.mysql.connection import Connection, ServerGone, ServerRefused, release_of

_PROGRAMS = ("mariadbd", "mysqld")
_ANSWER_S = 24 * 3600.0  # the drill's own limit is less
_INTERNAL = "'information_schema', 'performance_schema', 'sys'"
_RECOVERED = re.compile(r"To recover: (\d+) pages")
_LSN = re.compile(r"crash recovery from checkpoint LSN=(\d+)")
_PREPARED = "prepared transactions"


class MariaDB(Server):
    """What is started is the server of this machine, with the data of the clone."""

    _connection: Connection | None = None
    _rolled_back = False

    @property
    def _socket(self) -> str:
        return os.path.join(self.run, "socket")

    def words(self) -> list[str]:
        """Return the command that starts it; without the options of this machine's own server."""
        if not os.path.isdir(os.path.join(self.folder, "mysql")):  # the server would make new data
            raise Problem("this is no data of a server: it has no folder mysql")
        program = _program()
        self._check_release(program)
        log = _binary_log(self.folder)
        user = os.geteuid() if self.owner is None else self.owner[0]
        return [
            program, "--no-defaults", f"--datadir={self.folder}", f"--socket={self._socket}",
            f"--pid-file={os.path.join(self.run, 'pid')}", f"--tmpdir={self.scratch}", "--skip-networking",
            "--skip-grant-tables", "--skip-slave-start", "--event-scheduler=OFF", "--innodb-buffer-pool-size=64M",
            "--performance-schema=OFF", *(["--user=root"] if user == 0 else []),
            *([f"--log-bin={log}"] if log else []), *(f"--{setting}" for setting in self.settings),
        ]  # fmt: skip

    def _check_release(self, program: str) -> None:
        """Raise Problem if the data is of a newer server."""
        data: tuple[int, ...] = (0, 0, 0)
        for name in ("mysql_upgrade_info", "mariadb_upgrade_info"):
            with contextlib.suppress(OSError), open(os.path.join(self.folder, name), errors="replace") as file:
                data = release_of(file.read(100)) or data
        shown = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
        match = re.search(r"Ver (\S+)", shown)
        here = release_of(match[1]) if match else (0, 0, 0)
        if here[:2] < data[:2] and any(here):
            ours, theirs = (".".join(map(str, each)) for each in (here, data))
            raise Problem(f"the data is of server {theirs}, and the server of this machine is {ours}, which is older")

    def start(self, *more: str) -> None:
        """Start it; transactions that a missing binary log would decide about are rolled back."""
        try:
            super().start(*more)
        except Problem:
            if _PREPARED not in self.log_text():
                raise
            self._rolled_back = True
            with contextlib.suppress(Problem):  # it decides and ends
                super().start("--tc-heuristic-recover=ROLLBACK", *more)
            self._connection = None
            super().start(*more)
        if self.database:
            self._rows(f"USE {_quoted(self.database)}")

    def ready(self) -> bool:
        """Return whether it answers."""
        if not os.path.exists(self._socket):
            return False
        with contextlib.suppress(LockUnreachable):
            self._connection = Connection(Account("root", socket=self._socket), answer_s=_ANSWER_S)
        return self._connection is not None

    def started(self) -> str:
        """Return its version and what InnoDB recovered."""
        assert self._connection is not None
        log = self.log_text()
        pages, position = _RECOVERED.search(log), _LSN.search(log)
        words = [f"{'mariadb' if self._connection.mariadb else 'mysql'} {self._connection.version}"]
        if position:
            words.append(f"recovered {pages[1] if pages else 0} pages from LSN {position[1]}")
        if self._rolled_back:
            words.append("prepared transactions rolled back, for their binary log is not on this volume")
        return ", ".join(words)

    def _rows(self, sql: str) -> list[dict[str, str | None]]:
        assert self._connection is not None
        try:
            return self._connection.rows(sql)
        except ServerRefused as error:
            raise Problem(str(error)) from None
        except ServerGone as error:
            raise Problem(f"the server ended: {error}: {self.last_lines()}") from None

    def query(self, sql: str) -> str:
        """Return the rows of a statement, columns separated by tabs."""
        return "\n".join("\t".join("NULL" if v is None else v for v in row.values()) for row in self._rows(sql))

    def check(self) -> str:
        """Run CHECK TABLE for each table."""
        tables = self._rows(
            "SELECT table_schema AS s, table_name AS t FROM information_schema.tables"
            f" WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ({_INTERNAL}) ORDER BY 1, 2"
        )
        for table in tables:
            name = ".".join(_quoted(table[key] or "") for key in ("s", "t"))
            for row in self._rows(f"CHECK TABLE {name}"):
                kind, what = (row.get("msg_type") or "").lower(), row.get("msg_text") or ""
                if kind == "error" or (kind == "status" and what not in ("OK", "Table is already up to date")):
                    raise Problem(f"table {name}: {what}")
        return f"{len(tables)} tables"

    def stop(self) -> str:
        """Stop it as for a shutdown."""
        if self._connection is not None:
            self._connection.close()
        return super().stop()


def _quoted(name: str) -> str:
    return "`{}`".format(name.replace("`", "``"))


def _program() -> str:
    path = next((found for name in _PROGRAMS if (found := shutil.which(name)) is not None), None)
    if path is None:
        raise Problem("no mariadbd and no mysqld is installed")  # it was found before the drill began
    return path


def installed() -> bool:
    """Return whether this machine has a server."""
    return any(shutil.which(name) for name in _PROGRAMS)


def _binary_log(folder: str) -> str:
    """Return the name of the server's binary log, "" if the data folder has none.

    InnoDB asks it about transactions that were prepared when the snapshot was made.
    """
    found = []
    for name in os.listdir(folder):
        if not name.endswith(".index") or "relay" in name:
            continue
        with contextlib.suppress(OSError), open(os.path.join(folder, name), errors="replace") as file:
            last = file.read(1 << 20).split("\n")[-2:][0]
            match = re.fullmatch(r"(?:\./)?([^/\0]+)\.\d+", last)
            if match and os.path.exists(os.path.join(folder, os.path.basename(last))):
                found.append((os.stat(os.path.join(folder, os.path.basename(last))).st_mtime, match[1]))
    return max(found)[1] if found else ""
