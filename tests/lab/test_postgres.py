"""PostgreSQL from a snapshot without a lock: it recovers as after a power cut."""

import pathlib
import shutil
import subprocess
import tempfile

import pytest

from .agents import eventually
from .conftest import unavailable
from .copies import MOUNTED, mounted
from .runs import manifest, run, snapshots

pytestmark = pytest.mark.lab
HOME = "/var/lib/postgresql"
SOURCE = "root@db00:/dev/vg0/postgres"
PROGRAMS = "/usr/lib/postgresql/*/bin"
OPTIONS = (
    "-c listen_addresses= -c unix_socket_directories=/tmp -c shared_buffers=16MB -c max_connections=20"
    " -c max_wal_size=32MB -c min_wal_size=8MB"
)


AS_POSTGRES = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups")


class Server:
    """PostgreSQL in the guest, as its own user, without a network."""

    def __init__(self, guest):
        found = sorted(pathlib.Path("/").glob(PROGRAMS[1:]))
        if not found:
            unavailable("the lab needs postgresql")
        self.guest, self.programs = guest, found[-1]

    def program(self, name, arguments, **options):
        return self.guest.run(
            f"cd /tmp; PGHOST=/tmp {' '.join(AS_POSTGRES)} {self.programs}/{name} {arguments}", **options
        )

    def make(self, datadir):
        """Make a new data directory, on this machine and at its speed."""
        words = ("--no-sync", "--data-checksums", "--wal-segsize=4", "--auth=trust", "--no-locale")
        with tempfile.TemporaryDirectory(dir="/tmp") as made:  # the lab's own folder is closed to others than root
            shutil.chown(made, "postgres", "postgres")
            subprocess.run(
                [*AS_POSTGRES, self.programs / "initdb", "-D", f"{made}/data", *words],
                check=True,
                capture_output=True,
                cwd="/",
            )
            subprocess.run(["cp", "-a", f"{made}/data", self.guest.folder], check=True)
        self.guest.run(f"cp -a /run/lab/data {datadir}")
        shutil.rmtree(self.guest.folder / "data")

    def start(self, datadir):
        """Serve a data directory as it is; returns when recovery is over; raises GuestFailed."""
        self.program("pg_ctl", f"-D {datadir} -l {datadir}/log -w -o '{OPTIONS}' start >/dev/null")

    def stop(self, datadir):
        self.program("pg_ctl", f"-D {datadir} -m immediate -w stop >/dev/null")

    def sql(self, statement):
        return self.program("psql", "-d postgres -X -A -t -F ' '", input=statement).strip()


def committed(server):
    return int(server.sql("SELECT count(*) FROM pgbench_history"))


def test_it_recovers_and_nothing_that_was_committed_is_missing(guest, tmp_path):
    server = Server(guest)
    guest.run(
        f"lvcreate -qq -y -Zn -Wn -L 128M -n postgres vg0 && mkfs.ext4 -q /dev/vg0/postgres && "
        f"mount /dev/vg0/postgres {HOME} && chown postgres: {HOME}"
    )
    server.make(f"{HOME}/data")
    server.start(f"{HOME}/data")
    server.program("pgbench", "-i -q -s 1 postgres 2>&1")
    name = tmp_path / "pg"
    run(guest, "blockdiff-backup", name, SOURCE)
    server.program("pgbench", "-n -c 2 -R 100 -T 900 postgres </dev/null >/tmp/pgbench.log 2>&1 &")
    eventually(lambda: committed(server) >= 100)
    before = committed(server)
    run(guest, "blockdiff-backup", name, SOURCE)
    after = committed(server)
    assert "pgbench" in guest.run("ps -e -o comm")  # it was writing until now
    guest.run("pkill pgbench")
    server.stop(f"{HOME}/data")
    assert snapshots(guest) == []
    assert [manifest(name, number)["kind"] for number in (1, 2)] == ["full", "incremental"]
    assert (manifest(name, 2)["quiesce"], manifest(name, 2)["consistency"]) == (None, "crash")

    with mounted(guest, name, 2):
        server.start(f"{MOUNTED}/data")
        log = guest.run(f"cat {MOUNTED}/data/log")
        recovery = log[log.rindex("database system was interrupted") :]
        assert "not properly shut down; automatic recovery in progress" in recovery
        assert "redo done at" in recovery
        assert before <= committed(server) <= after
        # each transaction of the writer changes all four tables, by the same amount
        sums = server.sql(
            "SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers),"
            " (SELECT sum(bbalance) FROM pgbench_branches), (SELECT sum(delta) FROM pgbench_history)"
        ).split()
        assert len(sums) == 4 and len(set(sums)) == 1
        # every table, index and page: what is wrong is printed, and is its exit code
        server.program("pg_amcheck", "-d postgres --install-missing --heapallindexed 2>&1")
        assert server.sql("SHOW data_checksums") == "on"
        assert server.sql("SELECT coalesce(sum(checksum_failures), 0) FROM pg_stat_database") == "0"
        server.stop(f"{MOUNTED}/data")
