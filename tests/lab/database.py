"""MariaDB in the guest, with its whole data directory on a logical volume of its own.

A fresh data directory is made once per test run, on this machine and at its speed; the guest
copies it onto the volume. Root may log in from anywhere in the namespace without a password,
and `backup` with one and with no more rights than a lock needs.
"""

import subprocess
import time

from .guest import GuestFailed

DATADIR = "/var/lib/mysql"
SOCKET = "/run/mysqld/mysqld.sock"
PASSWORD = "lab secret"  # of the user `backup`; the blank is on purpose
START_TIMEOUT_S = 60
SMALL = "innodb-log-file-size=8M"
OPTIONS = (
    f"datadir={DATADIR}",
    f"socket={SOCKET}",
    "user=root",
    "bind-address=0.0.0.0",
    "skip-name-resolve",
    "tmpdir=/tmp",
    "pid-file=/run/mysqld/mysqld.pid",
    "log-error=/var/log/mysqld.log",
    "server-id=1",
    "log-bin=binlog",
    # a kernel of this kind has little memory and few addresses
    "innodb-buffer-pool-size-max=64M",
    "innodb-buffer-pool-size=32M",
    "innodb-use-native-aio=0",
    "key-buffer-size=4M",
    "aria-pagecache-buffer-size=4M",
    SMALL,
)
ACCOUNTS = f"""
CREATE USER IF NOT EXISTS root@'%'; GRANT ALL ON *.* TO root@'%' WITH GRANT OPTION;
CREATE USER IF NOT EXISTS backup@'%' IDENTIFIED BY '{PASSWORD}';
GRANT RELOAD, PROCESS, BINLOG MONITOR, CONNECTION ADMIN ON *.* TO backup@'%';
"""


class Database:
    """A MariaDB server in a guest; `start` puts it on a new volume, `close` stops it."""

    def __init__(self, guest):
        self.guest = guest
        self.volume = None  # path of the logical volume that holds the data directory

    def start(self, *, kind="thick", size="384M", vg="vg0", options=()):
        """Make a volume with a file system and a fresh data directory, and serve it; return its path."""
        source = self._fresh()
        make = f"lvcreate -qq -y -Zn -Wn -L {size} -n mysql {vg}"
        if kind == "thin":
            make = f"lvcreate -qq -y -L {size} -T {vg}/dbpool && lvcreate -qq -y -V {size} -T {vg}/dbpool -n mysql"
        self.volume = f"/dev/{vg}/mysql"
        self.guest.run(
            f"{make} && mkfs.ext4 -q {self.volume} && mount {self.volume} {DATADIR} && "
            f"cp -a /run/lab/{source.name}/. {DATADIR}/ && rm -rf {DATADIR}/lost+found",
            timeout=120,
        )
        self.serve(options=options)
        self.sql(ACCOUNTS)
        return self.volume

    def serve(self, datadir=DATADIR, *, socket=SOCKET, options=()):
        """Start a server on a data directory as it is, and return when it answers; raises GuestFailed."""
        lines = ["[mysqld]", *OPTIONS, f"datadir={datadir}", f"socket={socket}", *options]
        if socket != SOCKET:
            lines += [f"pid-file={socket}.pid", f"log-error={socket}.log", "skip-networking"]
        self.guest.run(f"cat > {socket}.cnf", input="\n".join(lines) + "\n")
        self.guest.run(f"setsid mariadbd --defaults-file={socket}.cnf </dev/null >/dev/null 2>&1 &")
        deadline = time.monotonic() + START_TIMEOUT_S
        while "1" not in self.guest.run(f"mariadb -S {socket} -N -e 'SELECT 1' 2>&1", check=False).split():
            if time.monotonic() > deadline:
                log = self.guest.run(f"tail -n 40 /var/log/mysqld.log {socket}.log", check=False)
                raise GuestFailed(f"MariaDB does not answer:\n{log}")
            time.sleep(0.2)

    def sql(self, statements, *, socket=SOCKET):
        """Run statements as root and return the rows, columns parted by tabs; raises GuestFailed."""
        return self.guest.run(f"mariadb -S {socket} -N -B", input=statements)

    def stop(self, *, socket=SOCKET):
        """Shut a server down in order."""
        self.guest.run(f"mariadb-admin -S {socket} shutdown", timeout=60)

    def _fresh(self):
        """Return a folder with a data directory that was never served; made once."""
        folder = self.guest.folder / "datadir"
        if not folder.is_dir():
            made = subprocess.run(
                ["mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={folder}", "--skip-test-db",
                 "--auth-root-authentication-method=normal", f"--{SMALL}"],
                capture_output=True,
                text=True,
                cwd="/",
            )  # fmt: skip
            if made.returncode != 0:
                raise GuestFailed(f"mariadb-install-db failed:\n{made.stdout}{made.stderr}")
        return folder
