"""A PostgreSQL server on a clone: it reaches nobody, archives nothing, and asks nobody for a password."""

import contextlib
import glob
import os
import re
import shutil
import signal
import subprocess

from blockdiff.drilling.server import Problem, Server

_PLACES = ("/usr/lib/postgresql/{}/bin", "/usr/pgsql-{}/bin")  # Debian's and Red Hat's
_REDO = re.compile(r"redo starts at (\S+)")
_SETTINGS = (
    "listen_addresses=", "archive_mode=off", "archive_command=", "archive_library=", "shared_preload_libraries=",
    "primary_conninfo=", "restore_command=", "log_destination=stderr", "logging_collector=off", "ssl=off",
    "shared_buffers=64MB", "huge_pages=off", "dynamic_shared_memory_type=mmap", "max_logical_replication_workers=0",
    "autovacuum=off", "log_min_messages=warning", "log_startup_progress_interval=0",
)  # fmt: skip
_SIZES = {  # as pg_controldata has them: as postgres takes them
    "max_connections": "max_connections", "max_worker_processes": "max_worker_processes",
    "max_wal_senders": "max_wal_senders", "max_prepared_xacts": "max_prepared_transactions",
    "max_locks_per_xact": "max_locks_per_transaction",
}  # fmt: skip


def release(folder: str) -> str:
    """Return which release the data is of, such as 15.  Raises Problem."""
    try:
        with open(os.path.join(folder, "PG_VERSION"), encoding="ascii", errors="replace") as file:
            found = file.read(100).strip()
    except OSError as error:
        raise Problem(f"this is no folder of PostgreSQL: PG_VERSION: {error.strerror}") from None
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,3})?", found):  # it becomes a part of a program's path
        raise Problem(f"this is no folder of PostgreSQL: PG_VERSION is {found!r}")
    return found


def program(name: str, version: str) -> str | None:
    """Return the path of a release's program, None if it is not installed."""
    for place in _PLACES:
        path = os.path.join(place.format(version), name)
        if os.access(path, os.X_OK):
            return path
    path = shutil.which(name) or ""
    shown = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout if path else ""
    return path if re.search(rf"\) {re.escape(version)}\b", shown) else None


def installed() -> bool:
    """Return whether this machine has a server of any release."""
    return any([shutil.which("postgres"), *(glob.glob(f"{place.format('*')}/postgres") for place in _PLACES)])


class Postgres(Server):
    """The release is that of the data; its folder must belong to the user inside."""

    stop_signal = signal.SIGINT

    def words(self) -> list[str]:
        """Return the command that starts it; without the options of this machine's own server."""
        version = release(self.folder)
        postgres = program("postgres", version)
        if postgres is None:
            raise Problem(f"the data is of PostgreSQL {version}, which is not installed: postgresql-{version}")
        config, hba = os.path.join(self.run, "postgresql.conf"), os.path.join(self.run, "pg_hba.conf")
        with open(config, "w", encoding="ascii"), open(hba, "w", encoding="ascii") as file:
            file.write("local all all trust\n")
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(self.folder, "postmaster.pid"))  # of a process of another machine
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(self.folder, "standby.signal"))  # else it would wait for its primary
        known = _known(postgres)
        ours = [each for each in (*_SETTINGS, *self._sizes()) if each.partition("=")[0] in known]
        places = [f"config_file={config}", f"hba_file={hba}", f"unix_socket_directories={self.run}"]
        settings = [word for each in (*places, *ours, *self.settings) for word in ("-c", each)]
        return [postgres, "-D", self.folder, *settings]

    def _sizes(self) -> list[str]:
        """Return the settings that must not be less than they were where the data is from."""
        path = program("pg_controldata", release(self.folder))
        if path is None:
            return []
        words = ["env", "LC_ALL=C", path, self.folder]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        found = re.findall(r"^(max_\w+) setting: *(\d+)$", done.stdout, re.MULTILINE)
        return [f"{_SIZES[name]}={value}" for name, value in found if name in _SIZES]

    def _tool(self, name: str, *words: str) -> subprocess.CompletedProcess[str]:
        path = program(name, release(self.folder))
        if path is None:
            raise Problem(f"{name} of PostgreSQL {release(self.folder)} is not installed")
        command = [path, "-h", self.run, "-U", "postgres", *words]
        return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)

    def ready(self) -> bool:
        """Return whether it answers."""
        return self._tool("pg_isready", "-q", "-d", "postgres").returncode == 0

    def started(self) -> str:
        """Return its version and from where it replayed its log."""
        redo = _REDO.search(self.log_text())
        version = self.query("show server_version")
        return f"postgresql {version}" + (f", redo from {redo[1]}" if redo else "")

    def query(self, sql: str) -> str:
        """Return the rows of a statement, columns separated by tabs."""
        words = ("-X", "-A", "-t", "-q", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-d", self.database or "postgres")
        done = self._tool("psql", *words, "-c", sql)
        if done.returncode:
            raise Problem(" ".join(done.stderr.split()) or self.last_lines())
        return done.stdout.rstrip("\n")

    def check(self) -> str:
        """Check all tables and indexes with pg_amcheck."""
        done = self._tool("pg_amcheck", "--all", "--install-missing")
        if done.returncode:
            raise Problem("; ".join((done.stdout + done.stderr).splitlines()[:5]))
        return "all tables and indexes"


def _known(postgres: str) -> set[str]:
    """Return the names of the settings that a release has."""
    shown = subprocess.run([postgres, "--describe-config"], capture_output=True, text=True, check=False).stdout
    return {line.partition("\t")[0] for line in shown.splitlines()}
