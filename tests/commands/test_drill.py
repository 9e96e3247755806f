"""blockdiff-drill as people run it, of sets that blockdiff-backup made of real data."""

import hashlib
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import tempfile

import boots
import databases
import otheruser
import pytest
from launched import lacking
from mdoc import Page
from nights import state
from places import ROOT

from blockdiff.drilling import sandbox
from blockdiff.errors import NotAllowedHere, ProgramUnfit

pytestmark = pytest.mark.usefixtures("nbdkit")
QUERY = ("--query", "SELECT COUNT(*) FROM shop.orders", "--expect", f"^{databases.ROWS}$")


@pytest.fixture(scope="module")
def backed(tmp_path_factory):
    """A folder with the set db: version 1 is well, version 2 has damaged pages."""
    for program in ("mariadbd", "mke2fs", "debugfs"):
        if shutil.which(program) is None:
            lacking(f"{program} is not installed")
    try:
        sandbox.require()
    except (ProgramUnfit, NotAllowedHere) as error:
        lacking(str(error))
    folder = tmp_path_factory.mktemp("backed")
    databases.mariadb(databases.image(folder / "image"))
    backup = ["backup", "-q", "--zstd", folder / "db", folder / "image"]
    _run(folder, *backup)
    databases.damage(folder / "image", "/mysql/shop/orders.ibd", range(4 * 4, 4 * 8))
    _run(folder, *backup)
    os.unlink(folder / "image")
    return folder


def _run(folder, *words):
    from verbs import environment
    from verbs import words as launch

    subprocess.run(launch(*words), env=environment(folder), check=True, capture_output=True)


@pytest.fixture
def name(backed, tmp_path):
    """A copy of the set, whose results are its own."""
    for path in backed.glob("db.*"):
        os.link(path, tmp_path / path.name)
    return tmp_path / "db"


def shape(text):
    return re.sub(r"\d+\.\d s", "T s", text)


def test_a_version_that_works(name, run_verb):
    before = state(name.parent)
    done = run_verb("drill", "--to", 1, "--mariadb", "/mysql", *QUERY, name)
    lines = shape(done.out).splitlines()
    assert (done.returncode, done.err) == (0, "")
    assert re.fullmatch(rf"drill of version 1 of {name} \(20\d\d-.*\)", lines[0])
    assert [line.split()[0] for line in lines[1:-1]] == ["open", "fsck", "mount", "start", "query", "stop"]
    assert lines[2] == "  fsck      T s  ext4, clean" and lines[5] == f"  query     T s  {databases.ROWS}"
    assert re.match(r"passed in T s; read [\d.]+ MiB of 256\.0 MiB$", lines[-1]), lines[-1]

    kept = json.loads((name.parent / "db.drills").read_text())
    digests = hashlib.sha256((name.parent / "db.1.md5").read_bytes()).hexdigest()
    assert (kept["outcome"], kept["version"], kept["md5_sha256"], kept["why"]) == ("passed", 1, digests, "")
    assert 0 < kept["read"] < 64 << 20
    os.unlink(name.parent / "db.drills")
    assert state(name.parent) == before, "nothing else was written or left"


def test_the_readmes_line(name, run_verb):
    (line,) = re.findall(r"^    .* cronlog -- blockdiff-drill (.*)$", (ROOT / "README.md").read_text(), re.M)
    done = run_verb("drill", *shlex.split(line)[:-1], "--to", 1, name)
    assert (done.returncode, done.err) == (0, "") and "  query     " in done.out


def test_a_version_that_does_not_work_is_reported_by_all(name, run_verb, tmp_path):
    done = run_verb("drill", "-q", "--mariadb", "mysql", "--check", "--metrics", tmp_path / "x.prom", name)
    assert (done.returncode, done.out) == (62, "") and "the drill failed in step " in done.err
    metrics = (tmp_path / "x.prom").read_text()
    assert f'blockdiff_drill_success{{set="{name}"}} 0\n' in metrics and f'_version{{set="{name}"}} 2\n' in metrics
    assert "version 2 drilled 20" in (shown := run_verb("list", name).out) and ": FAILED\n" in shown
    done = run_verb("check", name)
    assert done.returncode == 2 and "the drill of version 2 failed 0 min ago: the drill failed in step" in done.out

    assert run_verb("drill", "-q", "--to", 1, "--fsck", "--metrics", tmp_path / "x.prom", name).returncode == 0
    assert f'blockdiff_drill_success{{set="{name}"}} 1\n' in (tmp_path / "x.prom").read_text()
    assert run_verb("check", "--drilled", "1d", name).returncode == 0
    assert json.loads(run_verb("check", "--json", name).out)["sets"][0]["drill_passed"] is True
    assert ": FAILED" not in run_verb("list", name).out


def test_json_is_what_is_kept(name, run_verb):
    done = run_verb("drill", "--json", "--to", 1, "--run", "ls mysql | wc -l", name)
    told = json.loads(done.out)
    assert (done.returncode, done.err, told.pop("warnings")) == (0, "", [])
    assert told == json.loads((name.parent / "db.drills").read_text())
    assert [step["step"] for step in told["steps"]] == ["open", "fsck", "mount", "run"]
    assert Page("blockdiff-drill.1").marked("JSON") == {*told, *told["steps"][0], "warnings"}
    done = run_verb("drill", "--json", "--to", 1, "--run", "exit 4", name)
    told = json.loads(done.out)
    assert (done.returncode, told["outcome"], told["why"]) == (62, "failed", "the drill failed in step run: exit code 4: ")
    assert len((name.parent / "db.drills").read_text().splitlines()) == 2
    run_verb("drill", "-q", "--keep", 1, "--to", 1, "--fsck", name)
    assert len((name.parent / "db.drills").read_text().splitlines()) == 1


def test_a_machine_boots_from_it(run_verb, tmp_path):
    if shutil.which("qemu-system-x86_64") is None:
        lacking("qemu-system-x86_64 is not installed")
    (tmp_path / "disk").write_bytes(boots.DISK)
    assert run_verb("backup", "-q", tmp_path / "vm", tmp_path / "disk").returncode == 0
    done = run_verb("drill", "--boot", "login:", "--memory", "64M", tmp_path / "vm")
    assert (done.returncode, done.err) == (0, "")
    assert [line.split()[0] for line in done.out.splitlines()[1:-1]] == ["open", "boot"] and "web " in done.out
    done = run_verb("drill", "-q", "--boot", "panic", "--limit", "3s", "--memory", "64M", tmp_path / "vm")
    assert done.returncode == 62 and "panic was not on the serial console in time" in done.err


def test_what_is_on_the_clone_cannot_control_the_terminal(name, run_verb):
    done = run_verb("drill", "-q", "--to", 1, "--run", "printf '\\033[2J (hint: rm -rf x)'; exit 3", name)
    assert done.returncode == 62 and "\x1b" not in done.err and "(hint: rm" not in done.err


def test_the_limit_ends_it(name, run_verb):
    done = run_verb("drill", "-q", "--limit", "3s", "--to", 1, "--run", "sleep 987", name)
    assert done.returncode == 62 and "the limit of" in done.err


def test_wrong_use(name, run_verb):
    for words in (
        (), ("--mariadb", "a", "--postgres", "b"), ("--fsck", "--query", "x"), ("--fsck", "--check"),
        ("--mariadb", "a", "--expect", "x"), ("--boot", "x", "--fsck"), ("--fsck", "--lv", "a"), ("--mariadb", "a", "--query", "x", "--expect", "("),
    ):  # fmt: skip
        assert run_verb("drill", *words, name).returncode == 2, words
    assert run_verb("drill", "--fsck", f"{name}x").returncode == 10
    assert run_verb("drill", "--fsck", "--to", 9, name).returncode == 11
    assert not (name.parent / "db.drills").exists()


def test_a_volume_without_such_a_file_system(run_verb, plain_set):
    done = run_verb("drill", "--fsck", plain_set.name)
    assert done.returncode == 63 and "there is no file system in version 3 of " in done.err
    assert not os.path.exists(plain_set.name + ".drills")


def test_a_result_that_cannot_be_kept_is_a_warning(name, run_verb):
    (name.parent / "db.drills").mkdir()
    done = run_verb("drill", "--to", 1, "--fsck", name)
    assert done.returncode == 3 and "the result is not kept" in done.err


def test_metrics_that_cannot_be_written(name, run_verb):
    done = run_verb("drill", "-q", "--to", 1, "--fsck", "--metrics", "/nonexistent/x.prom", name)
    assert done.returncode == 15 and "/nonexistent/x.prom" in done.err
    assert json.loads((name.parent / "db.drills").read_text())["outcome"] == "passed"


def test_as_a_user_that_is_not_root(backed):
    user = otheruser.account("backup")
    if os.stat("/dev/fuse").st_mode & 0o666 != 0o666:
        os.chmod("/dev/fuse", 0o666)  # as udev does
    with tempfile.TemporaryDirectory(prefix="blockdiff-test-") as folder:
        for path in backed.glob("db.*"):
            shutil.copy(path, folder)
        otheruser.packages(folder)
        own = pathlib.Path(folder, "own")
        own.mkdir()
        for path in (folder, *pathlib.Path(folder).iterdir()):
            os.chown(path, user.pw_uid, user.pw_gid)

        def files():
            return {path.name: path.read_bytes() for path in pathlib.Path(folder).glob("db.*")}

        before = files()
        done = otheruser.run_as("backup", "blockdiff-drill", own, "-q", "--to", 1, "--mariadb", "mysql", *QUERY, f"{folder}/db")
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        os.unlink(f"{folder}/db.drills")
        assert files() == before
        assert os.listdir(own) == []
