"""Drills of real MariaDB and PostgreSQL data, crash-consistent; each fails when it should, and reaches nobody."""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid

import databases
import places
import pytest

from blockdiff.drilling import filesystem, sandbox
from blockdiff.errors import DrillFailed, NotAllowedHere, ProgramUnfit


def missing():
    """Why no drill can run here, "" if it can."""
    for program in ("mariadbd", "mariadb-install-db", "mke2fs", "debugfs"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    if databases.POSTGRES is None:
        return "PostgreSQL is not installed"
    try:
        sandbox.require()
    except (ProgramUnfit, NotAllowedHere) as error:
        return str(error)
    return ""


pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    databases.mariadb(databases.image(folder / "mariadb"))
    databases.postgresql(databases.image(folder / "postgres"))
    return folder


@pytest.fixture
def clone(images, tmp_path):
    """Return a function that gives a copy of an image to write to."""

    def make(kind):
        subprocess.run(["cp", "--sparse=always", images / kind, tmp_path / "clone"], check=True)
        return str(tmp_path / "clone")

    return make


def drill(image, server="", path="", *, limit_s=60, fsck=True, **more):
    """Run a drill's steps on an image; returns {step: text}, of a failed one the text begins with "FAILED: "."""
    if fsck:
        filesystem.check(image, limit_s)
    request = {"image": image, "server": server, "path": path, "settings": [], "database": "", "queries": [],
               "expect": None, "check": False, "run": None, **more}  # fmt: skip
    owner = filesystem.owner(image, path)
    return {e["step"]: ("FAILED: " if e["failed"] else "") + e["text"] for e in sandbox.run(request, *owner, limit_s)}


COUNT = "SELECT COUNT(*) FROM {}orders"
KINDS = {"mariadb": ("/mysql", "shop."), "postgres": ("data/", "")}
BOTH = pytest.mark.parametrize("kind", KINDS)


@BOTH
def test_a_server_recovers_answers_and_stops(kind, clone):
    path, schema = KINDS[kind]
    found = drill(clone(kind), kind, path, queries=[COUNT.format(schema)], expect=f"^{databases.ROWS}$", check=True)
    assert list(found) == ["mount", "start", "query", "check", "stop"]
    wanted = r"mariadb 1\d\.\d+.*, recovered \d+ pages from LSN \d+$" if kind == "mariadb" else r"postgresql .*, redo from "
    assert re.match(wanted, found["start"]), found["start"]
    assert found["query"] == str(databases.ROWS) and "tables" in found["check"] and found["stop"] == "exit 0"


@BOTH
def test_a_wrong_answer_fails(kind, clone):
    path, schema = KINDS[kind]
    found = drill(clone(kind), kind, path, queries=[COUNT.format(schema)], expect="^7$")
    assert list(found)[-1] == "query" and found["query"].startswith("FAILED: the answer is '200', which does not match")


@BOTH
def test_a_statement_that_the_server_refuses_fails(kind, clone):
    path, _ = KINDS[kind]
    found = drill(clone(kind), kind, path, database=KINDS[kind][1].strip("."), queries=["SELECT nothing FROM nowhere"])
    assert found["query"].startswith("FAILED: ") and "nowhere" in found["query"]


@BOTH
def test_a_setting_and_a_database_are_used(kind, clone):
    path, _ = KINDS[kind]
    more = (
        {"settings": ["max-connections=77"], "database": "shop", "queries": ["SELECT @@max_connections, DATABASE()"]}
        if kind == "mariadb"
        else {"settings": ["work_mem=77kB"], "database": "template1",
              "queries": ["SELECT current_setting('work_mem'), current_database()"]}
    )  # fmt: skip
    found = drill(clone(kind), kind, path, **more)
    assert found["query"] == ("77\tshop" if kind == "mariadb" else "77kB\ttemplate1")


def test_damaged_pages_of_a_table_fail(clone):
    image = clone("mariadb")
    databases.damage(image, "/mysql/shop/orders.ibd", range(4 * 4, 4 * 8))
    found = drill(image, "mariadb", "mysql", check=True)
    assert list(found.values())[-1].startswith("FAILED: "), found

    image = clone("postgres")
    asked = drill(image, "postgres", "data", queries=["SELECT pg_relation_filepath('orders')"])["query"]
    image = clone("postgres")
    databases.damage(image, f"/data/{asked}", (2, 3), b"U")
    found = drill(image, "postgres", "data", check=True)
    assert list(found.values())[-1].startswith("FAILED: "), found


def test_missing_log_files_fail(clone):
    image = clone("postgres")
    listed = subprocess.run(["debugfs", "-R", "ls -p /data/pg_wal", image], capture_output=True, text=True, check=True)
    files = [line.split("/")[5] for line in listed.stdout.splitlines() if re.search(r"/[0-9A-F]{24}/", line)]
    databases.edit(image, *(f"rm /data/pg_wal/{name}" for name in files))
    found = drill(image, "postgres", "data")
    assert list(found)[-1] == "start" and "checkpoint" in found["start"], found

    image = clone("mariadb")
    databases.edit(image, "rm /mysql/ibdata1")
    found = drill(image, "mariadb", "mysql")
    assert list(found)[-1] == "start" and found["start"].startswith("FAILED: it ended with exit code"), found


def test_a_binary_log_that_is_elsewhere_is_no_failure(clone):
    """Transactions may be prepared, and only that log could say whether they were committed."""
    image = clone("mariadb")
    databases.edit(image, "rm /mysql/bin.index", "rm /mysql/bin.000001")
    found = drill(image, "mariadb", "mysql", queries=["SELECT COUNT(*) >= 199 FROM shop.orders"], expect="^1$")
    assert found["stop"] == "exit 0", found


def test_data_of_a_newer_server_fails_with_both_releases(clone, tmp_path):
    (tmp_path / "new").write_text("99.1.2-MariaDB\n")
    image = clone("mariadb")
    databases.edit(image, "rm /mysql/mysql_upgrade_info", "rm /mysql/mariadb_upgrade_info",
                   f"write {tmp_path}/new /mysql/mysql_upgrade_info")  # fmt: skip
    found = drill(image, "mariadb", "mysql")
    assert re.match(r"FAILED: the data is of server 99\.1\.2, and .* is 1\d\.\d+\.\d+, which is older", found["start"])

    (tmp_path / "new").write_text("99\n")
    image = clone("postgres")
    databases.edit(image, "rm /data/PG_VERSION", f"write {tmp_path}/new /data/PG_VERSION")
    found = drill(image, "postgres", "data")
    assert "PostgreSQL 99, which is not installed: postgresql-99" in found["start"], found


@BOTH
def test_a_folder_that_has_no_data_fails(kind, clone):
    with pytest.raises(DrillFailed, match="there is no /nothing"):
        drill(clone(kind), kind, "nothing")
    found = drill(clone(kind), kind, "lost+found")  # where a server could make new data
    assert found["start"].startswith("FAILED: "), found


def test_it_reaches_nobody(clone):
    """No network but a loopback that is down, no processes of the machine, no event fires."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen()
        code = f"import socket; print(socket.socket().connect_ex(('127.0.0.1', {door.getsockname()[1]})))"
        shown = drill(clone("mariadb"), run=f"cat /proc/net/dev; ls -d /proc/[0-9]* | wc -l; {sys.executable} -c \"{code}\"; "
                      "test $(grep -c : /proc/net/dev) = 1 && echo alone")["run"]  # fmt: skip
        assert shown == "alone"
        door.settimeout(0.2)
        with pytest.raises(TimeoutError):
            door.accept()
    queries = ["SELECT SLEEP(2.5)", "SELECT COUNT(*) FROM shop.orders WHERE x = 'tick'", "SELECT @@skip_networking"]
    found = drill(clone("mariadb"), "mariadb", "mysql", queries=queries)
    assert found["query"] == "1"
    found = drill(clone("mariadb"), "mariadb", "mysql", queries=queries[:2])
    assert found["query"] == "0"


def test_links_of_the_clone_lead_to_nothing_that_can_be_written(clone, tmp_path):
    """A folder that is a link out of the clone is refused; and nothing but the clone can be written."""
    image = clone("postgres")
    databases.edit(image, "symlink /out /etc")
    assert drill(image, "postgres", "out")["start"] == "FAILED: out is a link that leads out of the file system"
    places = f"/tmp /var/tmp /dev/shm {tmp_path} $PWD"
    script = f"for f in {places}; do (: >$f/written) 2>/dev/null && echo $f; done | wc -l; test -e written && echo 1 of them"
    shown = drill(clone("postgres"), run=f"set -- $({script}); echo $*")["run"]
    assert shown == "1 1 of them"
    assert not [place for place in ("/tmp", "/var/tmp", "/dev/shm", tmp_path) if os.path.exists(f"{place}/written")]


def test_a_release_that_is_a_path_is_none(clone, tmp_path):
    """It becomes a part of the path of a program that is run."""
    image = clone("postgres")
    (tmp_path / "new").write_text("../../../clone/evil\n")
    databases.edit(image, "rm /data/PG_VERSION", f"write {tmp_path}/new /data/PG_VERSION")
    found = drill(image, "postgres", "data")
    assert found["start"] == "FAILED: this is no folder of PostgreSQL: PG_VERSION is '../../../clone/evil'"


def test_a_database_that_is_not_there_fails_at_once(clone):
    found = drill(clone("mariadb"), "mariadb", "mysql", database="no`such", queries=["SELECT 1"])
    assert list(found)[-1] == "start" and "Unknown database 'no`such'" in found["start"]
    found = drill(clone("postgres"), "postgres", "data", database="nosuch", queries=["SELECT 1"])
    assert list(found)[-1] == "start" and 'database "nosuch" does not exist' in found["start"]


def test_a_command_runs_in_the_file_system(clone):
    found = drill(clone("postgres"), run="cat data/PG_VERSION; touch here && ls here")
    assert found["run"] == "here"
    assert drill(clone("postgres"), run="echo no; exit 3")["run"] == "FAILED: exit code 3: no"


@pytest.fixture
def left(monkeypatch):
    """Return a function for the names of processes that this test began and that are left after ten seconds."""
    mark = f"BLOCKDIFF_TEST={uuid.uuid4()}"
    monkeypatch.setenv(*mark.split("="))

    def names():
        found = []
        for folder in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark.encode() in (folder / "environ").read_bytes():
                    found.append((folder / "comm").read_text().strip())
        return found

    def left():
        deadline = time.monotonic() + 10
        while names() and time.monotonic() < deadline:
            time.sleep(0.05)
        return names()

    left.now = names
    return left


def test_what_hangs_fails_at_the_limit_and_nothing_is_left(clone, left):
    with pytest.raises(DrillFailed, match="after mount: the limit of 2 s was reached"):
        drill(clone("postgres"), run="sleep 987", limit_s=2)
    with pytest.raises(DrillFailed, match="after start: the limit of"):
        drill(clone("mariadb"), "mariadb", "mysql", queries=["SELECT SLEEP(987)"], limit_s=4)
    assert left() == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_of_a_drill_that_is_killed(number, clone, tmp_path, left):
    mounts = pathlib.Path("/proc/self/mounts").read_text()
    code = (
        f"import sys; sys.path.insert(0, {str(places.ROOT)!r})\n"
        "from blockdiff.drilling import sandbox\n"
        f"request = {{'image': {clone('mariadb')!r}, 'server': 'mariadb', 'path': 'mysql', 'settings': [],"
        " 'database': '', 'queries': ['SELECT SLEEP(987)'], 'expect': None, 'check': False, 'run': None}\n"
        f"for event in sandbox.run(request, {filesystem.owner(clone('mariadb'), 'mysql')[0]},"
        f" {filesystem.owner(clone('mariadb'), 'mysql')[1]}, 900):\n"
        "    print(event['step'], flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert [process.stdout.readline().strip() for _ in range(2)] == ["mount", "start"]
        assert {"mariadbd", "fuse2fs"} <= set(left.now())
        process.send_signal(number)
        process.stdout.read()
    assert left() == []
    assert pathlib.Path("/proc/self/mounts").read_text() == mounts
    assert os.listdir(tmp_path) == ["clone"]
