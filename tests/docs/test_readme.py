"""The README is run: its commands exist, its list and its lines do on files what they say."""

import os
import re
import subprocess
import sys
import tomllib

import pytest
from mdoc import ROOT, Page
from nights import state
from options import EVERY_OPTION, ORIGINAL
from readme import INDENTED, PLACES, README, cron_line, moved, shown_list, shown_log, timeless

from blockdiff.commands import joblist, programs
from blockdiff.errors import BlockdiffError, Interrupted

OURS = {*programs.PROGRAMS, *ORIGINAL}


@pytest.fixture
def machine(tmp_path):
    """A folder that stands for / : with a disk image, and a function that runs a line of the README in it."""
    for place in PLACES:
        (tmp_path / place[1:]).mkdir(parents=True)
    (tmp_path / "srv/disk.img").write_bytes(os.urandom(150_000))
    path = [str(ROOT / "bin"), os.path.dirname(sys.executable), os.environ["PATH"]]
    environment = {"PATH": os.pathsep.join(path), "HOME": str(tmp_path), "TZ": "UTC"}

    def run(line):
        words = ["/bin/sh", "-c", moved(line, tmp_path)]
        return subprocess.run(words, capture_output=True, text=True, env=environment, cwd=tmp_path)

    return tmp_path, run


# words


def test_commands_that_are_named_exist():
    for text in INDENTED:
        for word in re.findall(r"(?<![\w./-])(?:bin/)?((?:ssh[-_])?blockdiff[-_]\w+|ssh[-_]lvm[-_]dump)\b", text):
            assert word in OURS, text
    for word in re.findall(r"`(blockdiff[-_]\w+|ssh[-_]\w+[-_]dump|mysqllock|cronlog)`", README):
        assert word in OURS
    assert "make demo" in README.split("## ")[0] and "make test" in README.split("## ")[0]


def test_options_that_are_named_exist():
    bench = subprocess.run([sys.executable, "-m", "tests.bench", "--help"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    option = re.compile(r"(?<![\w-])--[a-z][\w-]*")
    assert not set(option.findall(README)) - EVERY_OPTION - set(option.findall(bench.stdout))


def test_make_has_the_targets():
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"(?:^    |`)make ([a-z-]+)", README, re.M)
    assert "test-long" in targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.M)


def test_sections_that_are_cited_exist():
    cited = re.findall(r'`([\w-]+)\((\d)\)`, "([^"]+)"', README)
    assert cited
    for name, number, title in cited:
        assert title in Page(f"{name}.{number}").headings()


def test_files_and_folders_that_are_named_exist():
    table = README.partition("## Where things are")[2]
    for cell in re.findall(r"^\| (.*?) \|", table, re.M):
        for place in re.findall(r"`([^`]+)`", cell):
            assert (ROOT / place).exists(), place
    for page in re.findall(r"\bman/[\w-]+\.\d", README) + re.findall(r"`([\w-]+\.[157])`", table):
        assert (ROOT / "man" / page.removeprefix("man/")).is_file()


def test_exit_codes_are_those_of_the_program():
    def classes(base):
        for found in base.__subclasses__():
            yield found
            yield from classes(found)

    known = {found.exit_code for base in (BlockdiffError, Interrupted) for found in classes(base)}
    table = README.partition("## Exit codes")[2].partition("\n## ")[0]
    for low, high in re.findall(r"^\| (\d\d)–(\d\d) \|", table, re.M):
        decade = {code for code in known if code // 10 == int(low) // 10}
        assert (int(low), int(high)) == (min(decade), max(decade))
    for code in re.findall(r"[:,] (\d\d) [a-z]", table):
        assert int(code) in known


def test_dependencies_are_those_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    table = README.partition("## Dependencies")[2].partition("\n## ")[0]
    told = re.findall(r"^\| (\w+) \| \w", table, re.M)
    assert sorted(told[1:]) == sorted(re.match(r"[\w-]+", line)[0] for line in project["dependencies"])
    for kind in ("test", "lint"):
        for line in project["optional-dependencies"][kind]:
            name = re.match(r"[\w-]+", line)[0].lower().removeprefix("types-")
            assert name in table.lower(), name


# runs


def test_the_list_is_one(tmp_path):
    path = tmp_path / "list"
    path.write_text(shown_list())
    assert [line.hosts for line in joblist.read(str(path))] == [{"localhost"}, {"nas"}, {"db00"}]


def test_the_check_of_the_list_says_what_never_began(machine):
    root, run = machine
    assert run("blockdiff-backup /var/backup/good /srv/disk.img").returncode == 0
    lines = [f"{root}/var/backup/good {root}/srv/disk.img", f"{root}/var/backup/never {root}/srv/disk.img"]
    (root / "etc/backups.list").write_text(lines[0])
    assert (done := run(cron_line("blockdiff-check"))).returncode == 0 and done.stdout == ""
    (root / "etc/backups.list").write_text("\n".join(lines))
    done = run(cron_line("blockdiff-check"))
    assert done.returncode == 2 and f"CRITICAL {root}/var/backup/never: no such set" in done.stdout


def test_the_list_is_run_as_it_is_told(machine):
    """One volume is good, one is missing, one warns since the version before is damaged, one more is good."""
    root, run = machine
    assert run("blockdiff-backup /var/backup/warns /srv/disk.img").returncode == 0
    (root / "var/backup/warns.1.md5").write_bytes(b"torn")
    (root / "etc/backups.list").write_text(
        f"# what is backed up\n\n{root}/var/backup/good {root}/srv/disk.img\n"
        f"{root}/var/backup/fails {root}/srv/missing.img\n{root}/var/backup/warns {root}/srv/disk.img\n"
        f"{root}/var/backup/last {root}/srv/disk.img"  # no newline at the end
    )
    done = run(cron_line("blockdiff-run"))
    assert done.returncode == 30
    assert done.stdout.count("no such volume: ") == 2  # where it is printed, and in the table
    assert (root / "var/backup/good.ver").read_text() == "1\n"
    assert not (root / "var/backup/fails.ver").exists()
    assert (root / "var/backup/warns.ver").read_text() == "2\n"
    assert (root / "var/backup/last.ver").read_text() == "1\n"

    (root / "etc/backups.list").write_text(f"{root}/var/backup/good {root}/srv/disk.img\n")
    done = run(cron_line("blockdiff-run"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_first_backup_as_it_is_told(machine):
    root, run = machine
    (root / "var/backup").rmdir()
    first = README.partition("## The first backup")[2].partition("\n## ")[0]
    *lines, verify = re.findall(r"^    (.*)$", first, re.M)
    for line in lines:
        done = run(line)
        assert done.returncode == 0, done.stderr
    assert "1 versions" in done.stdout
    assert "versions that restore: 1" in run(verify).stdout
    assert (root / "var/backup").stat().st_mode & 0o777 == 0o700


def test_the_cron_line_logs_what_is_shown(machine):
    root, run = machine
    done = run(cron_line("/var/backup/img"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    log = (root / "var/log/backup.log").read_text().replace(str(root), "")
    assert timeless(log) == timeless(shown_log("disk.img"))


def test_restoring_as_it_is_told(machine):
    root, run = machine
    images = []
    for _ in range(3):
        images.append((root / "srv/disk.img").read_bytes())
        assert run(cron_line("/var/backup/img")).returncode == 0
        (root / "srv/disk.img").write_bytes(b"changed" + images[-1][7:] + b"grown")
    restore = README.partition("## Disaster recovery")[2].partition("\n## ")[0]
    lines = re.findall(r"^    (.*)$", restore, re.M)
    assert len(lines) == 4
    listed, newest, older, by_hand = map(run, [*lines[:3], lines[3].replace("restored", "by-hand")])
    assert listed.returncode == newest.returncode == older.returncode == by_hand.returncode == 0
    assert "3 versions" in listed.stdout
    assert (root / "srv/restored.img").read_bytes() == images[2]
    assert (root / "srv/older.img").read_bytes() == images[1]
    assert (root / "srv/by-hand.img").read_bytes() == images[2]


def test_using_a_version_as_it_is_told(machine, fuse, guests):
    root, run = machine
    lines = re.findall(r"^    (.*)$", README.partition("## Using a version")[2].partition("\n## ")[0], re.M)
    compare, dump, check, show, get, drill = lines
    assert " blockdiff-drill " in drill  # commands/test_drill.py runs it
    (root / "tree/opt/app").mkdir(parents=True)
    for number in (1, 2, 3):
        (root / "tree/opt/app/settings").write_text(f"{number}\n")
        line = f"rm -f {root}/srv/disk.img && PATH=$PATH:/sbin:/usr/sbin && mke2fs -q -t ext4 -d {root}/tree {root}/srv/disk.img 8M"
        assert (done := run(line)).returncode == 0, done.stderr
        assert run("blockdiff-backup /var/backup/img /srv/disk.img").returncode == 0
    before = state(root / "var/backup")
    assert (done := run(compare)).returncode == 0, done.stderr
    assert "Images are identical" in done.stdout
    for line in (dump, check):
        assert (done := run(f"PATH=$PATH:/sbin:/usr/sbin; {line}")).returncode == 0, done.stderr
    assert (root / "srv/settings").read_text() == "2\n"
    assert "Pass 5" in done.stdout
    assert (done := run(show)).returncode == 0, done.stderr
    assert done.stdout == "part  type  size     holds\n-     ext4  8.0 MiB\n"
    assert (done := run(get)).returncode == 0, done.stderr
    assert (root / "srv/old/settings").read_text() == "2\n"
    assert sorted(path.name for path in (root / "srv").iterdir()) == ["disk.img", "old", "settings"]
    assert state(root / "var/backup") == before


def test_the_crontab_of_2010_works(machine):
    root, run = machine
    for _ in range(2):
        assert run(cron_line("blockdiff_dump")).returncode == 0
    assert sorted(path.name for path in (root / "var/backup").glob("old.*.gz")) == ["old.1.gz", "old.2.gz"]
    assert "command exited with code:0" in (root / "var/log/backup.log").read_text()


def test_versions_before_a_full_one_may_be_removed(machine):
    root, run = machine
    for options in ("", "", "--full ", ""):
        assert run(f"blockdiff-backup {options}/var/backup/img /srv/disk.img").returncode == 0
    for path in [*(root / "var/backup").glob("img.1.*"), *(root / "var/backup").glob("img.2.*")]:
        path.unlink()
    assert run("blockdiff-verify /var/backup/img").returncode == 0
    assert run("blockdiff-backup /var/backup/img /srv/disk.img").returncode == 0
    assert run("blockdiff-merge /var/backup/img /srv/restored.img").returncode == 0
    assert (root / "srv/restored.img").read_bytes() == (root / "srv/disk.img").read_bytes()
