"""A database that is written to while it is backed up: whether a restored version is consistent.

The server is MariaDB on a logical volume of the guest; the writer and the backup run beside it.
"""

import contextlib
import json
import os
import re
import time

import pytest
from cuts import Cuts

from .copies import MOUNTED, mounted
from .database import ACCOUNTS, DATADIR, PASSWORD, Database
from .guest import GuestFailed
from .runs import BIN, bare, finished, manifest, run, snapshots, started, unpublished
from .writer import tables, writing

SOURCE = "root@db00:/dev/vg0/mysql"
LOCK = "mysqllock --host=db00 --user=backup"
ENVIRONMENT = {"PATH": f"{BIN}:{os.environ['PATH']}", "MYSQL_PWD": PASSWORD}
COPY = "/tmp/copy.sock"  # of the server on a restored version
COUNTERS = {"c1": "InnoDB", "c2": "Aria", "c3": "MyISAM"}


@pytest.fixture(scope="module")
def database(lab):
    """Yield a server that serves all tests here from /dev/vg0/mysql."""
    served = Database(lab)
    try:
        served.start(size="128M")
        yield served
    finally:
        lab.reset()


def backup(database, name, *args, code=0, **environment):
    return run(database.guest, "blockdiff-backup", *args, name, SOURCE, code=code, **ENVIRONMENT, **environment)


@contextlib.contextmanager
def copy(database, name, number):
    """Serve a version: restored into a new volume of the guest, its file system mounted, MariaDB started on it."""
    with mounted(database.guest, name, number):
        database.serve(MOUNTED, socket=COPY)
        yield
        database.stop(socket=COPY)


def counters(database, *names, **at):
    return [int(database.sql(f"SELECT c FROM d.{name}", **at)) for name in names]


def checksums(database, names, **at):
    return database.sql("CHECKSUM TABLE " + ", ".join(f"d.{name}, d.rows_{name}" for name in names), **at)


def unsound(database, names):
    """Return what CHECK TABLE finds in the copy's tables."""
    said = database.sql(
        "CHECK TABLE " + ", ".join(f"d.{name}, d.rows_{name}" for name in names) + " EXTENDED", socket=COPY
    )
    rows = [line.split("\t") for line in said.splitlines()]
    assert len(rows) >= 2 * len(names)
    return [row for row in rows if row[2:] != ["status", "OK"]]


def replay(database, binlog):
    """Apply to the copy what the live server's binary log has from a position on."""
    listed = [line.split("\t")[0] for line in database.sql("SHOW BINARY LOGS").splitlines()]
    files = listed[listed.index(binlog["file"]) :]
    database.sql("SET GLOBAL innodb_flush_log_at_trx_commit = 0; SET GLOBAL sync_binlog = 0", socket=COPY)  # faster
    database.guest.run(
        f"cd {DATADIR} && mariadb-binlog --start-position={binlog['position']} {' '.join(files)} | mariadb -S {COPY}"
    )


# -- what a version is worth


def test_a_locked_version_is_one_moment_of_all_engines(database, tmp_path):
    """Full and incremental ones, the lock told by option and by environment, held in both ways."""
    database.sql(tables(COUNTERS))
    name = tmp_path / "db"
    with writing(database.guest, *COUNTERS) as writer:
        backup(database, name, "--lock", LOCK)
        backup(database, name, LVCREATE_PREFIX=LOCK)
        backup(database, name, "--lock", LOCK + " --method=backup-stage")
    live = counters(database, *COUNTERS)
    sums = checksums(database, COUNTERS)

    assert live == [writer["rounds"]] * 3
    assert [manifest(name, number)["kind"] for number in (1, 2, 3)] == ["full", "incremental", "incremental"]
    before = [0, 0, 0]
    for number in (1, 2, 3):
        said = manifest(name, number)
        assert said["consistency"] == "application"
        quiet = said["quiesce"]
        assert set(quiet) == {"method", "held_s", "waited_s", "server", "version", "binlog", "gtid"}
        assert quiet["method"] == ("backup-stage" if number == 3 else "ftwrl")
        assert quiet["server"] == "db00:3306"
        assert quiet["version"] == database.sql("SELECT @@version").strip()
        assert quiet["held_s"] > 0 and quiet["waited_s"] >= 0
        with copy(database, name, number):
            assert unsound(database, COUNTERS) == []
            c1, c2, c3 = then = counters(database, *COUNTERS, socket=COPY)
            assert c1 >= c2 >= c3 >= c1 - 1
            assert all(old < new < end for old, new, end in zip(before, then, live, strict=True))
            # and it is the moment whose position was recorded: what was logged since makes it the live one
            assert quiet["gtid"].startswith("0-1-")
            replay(database, quiet["binlog"])
            assert counters(database, *COUNTERS, socket=COPY) == live
            assert checksums(database, COUNTERS, socket=COPY) == sums
        before = then
    assert snapshots(database.guest) == []


def test_without_a_lock_innodb_recovers_as_after_a_crash(database, tmp_path):
    database.sql(tables({"c1": "InnoDB"}))
    name = tmp_path / "db"
    committed = []
    with writing(database.guest, "c1"):
        for number in (1, 2):
            committed += counters(database, "c1")
            backup(database, name)
            assert manifest(name, number)["quiesce"] is None
            assert manifest(name, number)["consistency"] == "crash"
        committed += counters(database, "c1")
    for number in (1, 2):
        with copy(database, name, number):
            assert "Starting crash recovery" in database.guest.run(f"cat {COPY}.log")
            assert unsound(database, ["c1"]) == []
            (then,) = counters(database, "c1", socket=COPY)
            assert committed[number - 1] <= then <= committed[number]


# -- what the manifest says of it


def test_another_volume_than_the_servers_is_only_crash_consistent(database, tmp_path):
    guest = database.guest
    guest.run("lvcreate -qq -y -Zn -Wn -L 8M -n other vg0 && mkfs.ext4 -q /dev/vg0/other")
    try:
        name = tmp_path / "other"
        run(guest, "blockdiff-backup", "--lock", LOCK, name, "root@db00:/dev/vg0/other", **ENVIRONMENT)
        assert manifest(name)["quiesce"]["server"] == "db00:3306"
        assert manifest(name)["consistency"] == "crash"
    finally:
        guest.run("lvremove -qq -y vg0/other")


@pytest.mark.parametrize("hostname", ["db01", "db00"])
def test_another_server_than_the_volumes_is_only_crash_consistent(database, tmp_path, hostname):
    """It keeps its files in folders and under a process number's file of the same names; even its host's is."""
    guest = database.guest
    (guest.folder / "accounts.sql").write_text(ACCOUNTS.replace("; ", ";\n"))
    # `serve` has left the options of the real one
    guest.run(
        "setsid unshare -m -u sh -ec 'hostname " + hostname + "; cp /run/mysqld/mysqld.sock.cnf /tmp/twin.cnf;"
        f" mount -t tmpfs none {DATADIR}; mount -t tmpfs none /run/mysqld; cp -a /run/lab/datadir/. {DATADIR};"
        " exec mariadbd --defaults-file=/tmp/twin.cnf --port=3307 --init-file=/run/lab/accounts.sql"
        " --log-error=/tmp/twin.log' </dev/null >/tmp/twin.out 2>&1 & echo $! >/tmp/twin.pid"
    )
    try:
        for _ in range(150):
            if "ready for connections" in guest.run("cat /tmp/twin.log 2>&1", check=False):
                break
            time.sleep(0.2)
        else:
            raise GuestFailed(guest.run("cat /tmp/twin.out /tmp/twin.log", check=False))
        name = tmp_path / "db"
        backup(database, name, "--lock", LOCK + " --port=3307")
        assert manifest(name)["quiesce"]["server"] == f"{hostname}:3307"
        assert manifest(name)["consistency"] == "crash"
    finally:
        guest.run("kill -KILL $(cat /tmp/twin.pid) && while [ -e /proc/$(cat /tmp/twin.pid) ]; do sleep 0.1; done")


# -- how long the others wait


def test_the_lock_is_held_for_the_snapshot_and_not_for_the_reading(database, tmp_path):
    """Nothing compresses 24 MiB of random bytes: at 4 MiB a second reading takes six seconds."""
    database.sql(tables(COUNTERS))
    name = tmp_path / "db"
    database.guest.run(f"head -c 24M /dev/urandom > {DATADIR}/ballast; sync")
    try:
        with writing(database.guest, *COUNTERS) as writer:
            words = ("--bwlimit", "4M", "--lock", LOCK, name, SOURCE)
            with started(database.guest, *words, **ENVIRONMENT) as process:
                said = ""
                while "issuing unlock statement" not in said:
                    line = process.stderr.readline()
                    assert line, said
                    said += line
                unlocked = time.monotonic()
                wrote = counters(database, "c3")
                assert snapshots(database.guest) != []
                assert not name.with_suffix(".ver").exists()
                said += finished(process, 0)
                reading_s = time.monotonic() - unlocked
                went_on = counters(database, "c3")
        held_s = manifest(name)["quiesce"]["held_s"]

        assert reading_s > 5 > held_s
        assert writer["longest_s"] < 5
        assert went_on[0] > wrote[0] + 10
        (told,) = re.findall(r"held for ([\d.]+) s", said)
        assert float(told) == held_s
        assert json.loads((tmp_path / "db.1.json").read_text())["consistency"] == "application"
    finally:
        database.guest.run(f"rm {DATADIR}/ballast")


@pytest.fixture
def in_the_way(database):
    """An UPDATE that has been running for a while when the test begins, and would for two minutes."""
    guest = database.guest
    database.sql(tables({"c1": "InnoDB"}))
    database.sql("CREATE TABLE d.slow (n INT) ENGINE=InnoDB; INSERT INTO d.slow VALUES (1)")
    client = "mariadb -S /run/mysqld/mysqld.sock d -e 'UPDATE slow SET n = n + SLEEP(120)'"
    guest.run(f"setsid {client} </dev/null >/dev/null 2>&1 &")
    running = "SELECT id FROM information_schema.processlist WHERE info LIKE 'UPDATE slow%' AND time_ms > 1500"
    while not database.sql(running):
        time.sleep(0.1)
    yield
    database.sql(f"KILL {database.sql(running).strip()}")


def refused(database, tmp_path, options):
    """Return what a backup says whose lock is not granted, and what a writer saw meanwhile."""
    name = tmp_path / "db"
    with writing(database.guest, "c1") as writer:
        begun = time.monotonic()
        done = backup(database, name, "--lock", f"{LOCK} {options}", code=41)
        took_s = time.monotonic() - begun
        wrote = counters(database, "c1")[0]
        time.sleep(0.5)
        assert counters(database, "c1")[0] > wrote  # nothing is left locked
    assert unpublished(name)
    assert snapshots(database.guest) == []
    return done.stderr, writer["longest_s"], took_s


def test_nobody_waits_while_a_quiet_moment_is_waited_for(database, tmp_path, in_the_way):
    said, longest_s, took_s = refused(database, tmp_path, "--wait-query=1 --wait-timeout=4 --lock-timeout=3")
    assert "issuing lock statement" not in said
    assert "a long query was running for all of 4 s: UPDATE of root" in said
    assert took_s > 4
    assert longest_s < 3  # they were not held up for as long as a lock would have been asked for


def test_nobody_waits_longer_than_the_lock_timeout(database, tmp_path, in_the_way):
    said, longest_s, _ = refused(database, tmp_path, "--wait-query=100 --lock-timeout=2")
    assert "issuing lock statement: FLUSH TABLES WITH READ LOCK" in said
    assert 1 < longest_s < 5  # held up they were, but for these two seconds and not for two minutes


# -- straight into an object store


def test_a_store_that_goes_away_leaves_no_snapshot_and_no_lock(database, objectstore, bucket):
    """Every connection to it is cut from the first part on, which is sent while the snapshot is read."""
    guest, stood = database.guest, set()
    guest.run(f"head -c 24M /dev/urandom > {DATADIR}/noise; sync")

    def look():
        if way.log[-1].kind == "UploadPart":
            way.since = (1, "before")
            stood.update(snapshots(guest))

    way = Cuts(objectstore.endpoint, guest.listen())
    try:
        way.reset(**{f"n{number}": look for number in range(1, 20)})
        environment = {**ENVIRONMENT, **objectstore.environment, "AWS_ENDPOINT_URL": way.url}
        line = ("--bwlimit", "16M", "--lock", LOCK, f"s3://{bucket}/db", SOURCE)
        with started(guest, *line, **environment) as process:
            said = process.communicate(timeout=120)[1]
    finally:
        way.close()
        guest.run(f"rm {DATADIR}/noise")
    assert process.returncode in (15, 17) and len(stood) == 1, said
    listed = objectstore.client.list_objects_v2(Bucket=bucket)["Contents"]
    assert [one["Key"] for one in listed] == ["db.lease-1"]
    assert bare(guest)
    assert "backup" not in database.sql("SELECT user FROM information_schema.processlist").split()
    database.sql("CREATE DATABASE freed; DROP DATABASE freed")
