"""The wheel, built from the source archive and installed into an empty environment."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile

import places
import pytest
from lab.conftest import unavailable
from options import ORIGINAL
from ownmachine import covered
from readme import INDENTED

from blockdiff.blocks import md5many
from blockdiff.commands import programs

ROOT = places.ROOT
SHARE = {
    "bash": "share/bash-completion/completions",
    "zsh": "share/zsh/site-functions",
    "fish": "share/fish/vendor_completions.d",
}


def call(*words, **options):
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """A folder with a source archive, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    call(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    return folder


@pytest.fixture(scope="module")
def installed(dist, tmp_path_factory):
    """An environment with the wheel in it, and nothing of the checkout.

    What the wheel depends on is borrowed from the environment that runs the tests.
    """
    folder = tmp_path_factory.mktemp("installed")
    install(dist, folder)
    return folder


def install(dist, folder):
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin/python"
    (wheel,) = dist.glob("*.whl")
    call(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel)
    site = call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    # a path file is not looked for in there, so this does not lead to the checkout
    pathlib.Path(site, "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")


def test_the_wheel_holds_the_agent_the_pages_the_templates_and_the_completion(dist):
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    agent = {f"blockdiff/{path.relative_to(ROOT)}" for path in (ROOT / "agent").rglob("*.py")}
    assert {name for name in names if name.startswith("blockdiff/agent/")} == agent
    page = {f"blockdiff/page/{name}" for name in ("page.html", "body.html", "style.css")}
    assert page <= names
    pages = {f"share/man/man{path.suffix[1:]}/{path.name}" for path in (ROOT / "man").glob("*.[0-9]")}
    some = [path.relative_to(ROOT / "man") for path in (ROOT / "man/examples").rglob("*") if path.is_file()]
    examples = {f"share/doc/blockdiff/{path}" for path in some}
    scripts = {f"{SHARE[path.parent.name]}/{path.name}" for path in (ROOT / "blockdiff/completion").glob("*/*")}
    assert {name.partition(".data/data/")[2] for name in names if ".data/" in name} == pages | scripts | examples
    assert not {name for name in names if name.startswith("blockdiff/completion")}
    assert not {name for name in names if name.startswith(("agent/", "tests/", "bin/"))}


EXTENSION = "blockdiff/blocks/_md5lanes.abi3.so"
NO_COMPILER = {**os.environ, "CC": "/nonexistent/cc"}


def needs_compiler():
    if md5many.engine == "hashlib":
        unavailable("there is no C compiler")


def engine_of(installed):
    """What the installed program says of itself."""
    return call(installed / "bin/blockdiff", "--version", cwd=installed).splitlines()[1]


def test_the_wheel_holds_the_extension_for_every_python(dist, installed):
    needs_compiler()
    (wheel,) = dist.glob("*.whl")
    assert wheel.name.split("-")[2:4] == ["cp311", "abi3"]
    assert wheel.stem.split("-")[4] == re.sub(r"[-.]", "_", sysconfig.get_platform())
    with zipfile.ZipFile(wheel) as archive:
        assert [name for name in archive.namelist() if name.endswith((".so", ".c"))] == [EXTENSION]
    assert engine_of(installed) == f"md5: {md5many.engine}"


@pytest.fixture(scope="module")
def portable(dist, tmp_path_factory):
    """What is built and installed from the source archive where there is no C compiler."""
    folder = tmp_path_factory.mktemp("portable")
    (source,) = dist.glob("*.tar.gz")
    words = ["-m", "pip", "wheel", "-q", "--no-deps", "--no-index", "--no-build-isolation", "-w", folder, source]
    call(sys.executable, *words, env=NO_COMPILER)
    install(folder, folder / "installed")
    return folder


def test_without_a_compiler_the_wheel_is_for_every_machine(portable):
    (wheel,) = portable.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert not [name for name in archive.namelist() if name.endswith((".so", ".c"))]
    assert engine_of(portable / "installed") == "md5: hashlib"


def test_an_editable_install_is_built_beside_the_source_or_without_it(dist, tmp_path):
    needs_compiler()
    (source,) = dist.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        archive.extractall(tmp_path, filter="data")
    (checkout,) = tmp_path.iterdir()
    folder = tmp_path / "installed"
    venv.create(folder, with_pip=False, symlinks=True)
    site = call(folder / "bin/python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    (pathlib.Path(site) / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    words = ["--python", folder / "bin/python", "install", "-q", "--no-deps", "--no-index", "--no-build-isolation", "-e"]
    for environment, engine in ((os.environ, md5many.engine), (NO_COMPILER, "hashlib")):
        call(sys.executable, "-m", "pip", *words, checkout, env=environment)
        assert (checkout / EXTENSION).exists() == (engine != "hashlib")
        assert engine_of(folder) == f"md5: {engine}"


@pytest.mark.parametrize("changed", ["blockdiff/blocks/md5lanes.c", ".ci/extension.py"])
def test_a_change_of_the_extension_makes_the_environment_again(changed, tmp_path):
    for name in ("Makefile", "pyproject.toml", "tests/venv.sh", "blockdiff/blocks/md5lanes.c", ".ci/extension.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/ready").write_text(f"{tmp_path}\n")
    make = ["make", "--no-print-directory", "-n", "-C", tmp_path, "venv"]
    assert "tests/venv.sh" not in call(*make)
    assert "tests/venv.sh .venv" in call(*make, "-W", changed)


def test_the_source_archive_holds_what_tests_need(dist):
    (source,) = dist.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = ["Makefile", "README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml", ".ci/run", "agent/assembler.py"]
    wanted += [".ci/extension.py", "blockdiff/blocks/md5lanes.c"]
    wanted += [f"bin/{path.name}" for path in (ROOT / "bin").iterdir()]
    wanted += [f"tests/{path.name}" for path in (ROOT / "tests").iterdir() if path.is_file()]
    wanted += [path.relative_to(ROOT).as_posix() for path in (ROOT / "tests/vectors").rglob("*") if path.is_file()]
    assert not set(wanted) - names


def test_every_program_is_installed(installed):
    names = {path.name for path in (installed / "bin").iterdir()}
    assert not {*programs.PROGRAMS, *ORIGINAL} - names
    for path in (ROOT / "man").glob("*.[0-9]"):
        assert (installed / f"share/man/man{path.suffix[1:]}/{path.name}").is_file()
    for name in (*programs.PROGRAMS, *ORIGINAL):
        assert (installed / SHARE["bash"] / name).is_file()
        assert (installed / SHARE["fish"] / f"{name}.fish").is_file()


@pytest.mark.parametrize("compiler", [True, False], ids=["installed", "without a compiler"])
def test_installed_programs_back_up_and_restore(compiler, request, tmp_path):
    installed = request.getfixturevalue("installed") if compiler else request.getfixturevalue("portable") / "installed"
    environment = {"PATH": f"{installed}/bin:{os.defpath}", "HOME": str(tmp_path)}

    def run(*words):
        return call(installed / "bin" / words[0], *words[1:], env=environment, cwd=tmp_path)

    where = call(installed / "bin/python", "-c", "import blockdiff; print(blockdiff.__file__)", cwd=tmp_path)
    assert pathlib.Path(where).is_relative_to(installed)
    first = os.urandom(300_000) + bytes(700_000)
    second = first[:400_000] + b"changed" + first[400_007:] + b"grown"
    volume = tmp_path / "volume"
    volume.write_bytes(first)
    run("blockdiff-backup", "set", "volume")
    volume.write_bytes(second)
    run("blockdiff_backup", "set", "blockdiff_dump", "-z", "volume")
    run("blockdiff-merge", "set", "one", "--to", "1")
    run("blockdiff", "merge", "set", "two")
    assert (tmp_path / "one").read_bytes() == first
    assert (tmp_path / "two").read_bytes() == second
    run("blockdiff-verify", "set")


def test_man_finds_the_pages_by_path(installed):
    if shutil.which("man") is None or shutil.which("manpath") is None:
        unavailable("man-db is not installed")
    environment = {"PATH": f"{installed}/bin:{os.environ['PATH']}"}
    for name in (*programs.PROGRAMS, *ORIGINAL):
        found = pathlib.Path(call("man", "-w", "1", name, env=environment).strip())
        assert found.is_relative_to(installed), name
    environment = {"PATH": os.environ["PATH"], "MANPATH": f"{installed}/share/man:"}
    assert pathlib.Path(call("man", "-w", "7", "blockdiff", env=environment).strip()).is_relative_to(installed)


# What is written to these folders goes to a file system in memory and away with the last process; the machine's
# own crontabs, logs and mail are not touched.  Then cron is started twice, each time shortly before its jobs.
# Usage: sh -c CRON sh FOLDER PYTHON
CRON = "set -eu\n" + covered("/etc", "/opt", "/run", "/srv", "/usr", "/var") + r"""
mount -t tmpfs none /dev/shm # libfaketime's
rm -rf /etc/crontab /etc/cron.d/* /var/spool/cron/crontabs/*
install -m 755 "$1/sendmail" /usr/sbin/sendmail
mkdir -p /var/log /var/spool/cron/crontabs
install -m 600 "$1/crontab" /var/spool/cron/crontabs/root
cp "$1/backups.list" /etc/backups.list
cp "$1/disk.img" /srv/disk.img
mkdir -p -m 700 /var/backup
"$2" -c 'import sys; sys.path[:0] = ["tests/programs", "tests/support", "tests"]; import test_wheel as t; t.install(*map(t.pathlib.Path, sys.argv[1:]))' "$1" /opt/blockdiff

at() { # TIME ENDS MAILS: let cron run until so many jobs and lines of the list have ended, and so many mails are there
    TZ=UTC faketime -f "@2026-11-21 $1" cron -f &
    for _ in $(seq 300); do
        ended=$(cat /var/log/backup.log 2>/dev/null | grep -c ' command exited with code:' || :)
        [ "$ended" -lt "$2" ] || [ "$(ls "$mail" | wc -l)" -lt "$3" ] || break
        sleep 0.1
    done
    kill "$(cat /run/crond.pid)"
    wait
}
mail=$1/mail
at 03:04:59 4 1
exec 9>/var/backup/old.lock
flock 9
at 04:04:59 5 2
cp -r /var/backup /var/log/backup.log "$1"
"""


def test_the_readmes_crontab_works_with_cron(dist, disk):
    """Word for word, at the times that it says, with the programs where the README installs them."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    for program in ("cron", "faketime", "unshare"):
        if os.geteuid() != 0 or shutil.which(program, path=path) is None:
            unavailable(f"a real cron needs root and {program}")
    settings = [line for line in INDENTED if line.startswith(("PATH=/opt/blockdiff/bin:/usr", "MAILTO="))]
    jobs = [line for line in INDENTED if re.match(r"5 [34] \* \* \* ", line)]
    assert (len(settings), len(jobs)) == (2, 3)
    (disk / "crontab").write_text("".join(f"{line}\n" for line in settings + jobs))
    (disk / "backups.list").write_text("/var/backup/no /srv/no.img\n/var/backup/good /srv/disk.img\n")
    (disk / "disk.img").write_bytes(os.urandom(200_000))
    (disk / "mail").mkdir()
    (disk / "sendmail").write_text(f"#!/bin/sh\nexec cat >{disk}/mail/$$\n")
    shutil.copy(next(dist.glob("*.whl")), disk)

    isolated = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    call(*isolated, "sh", "-c", CRON, "sh", disk, sys.executable, cwd=ROOT, env={**os.environ, "PATH": path})

    assert {path.name for path in (disk / "backup").glob("*.ver")} == {"img.ver", "good.ver"}
    log = (disk / "backup.log").read_text()
    assert sorted(re.findall(r"exited with code:(\d+)", log)) == ["0", "0", "12", "30", "30"]  # the list's has those of its lines
    mails = sorted(path.read_text() for path in (disk / "mail").iterdir())
    assert len(mails) == 2  # none of what succeeded
    both = "".join(mails)
    assert both.count("To: root") == 2
    assert re.search(r"^\[[^]]+\] /var/backup/no +- .* 30  no such volume: ", both, re.M)
    assert "/var/backup/old is locked by another run" in both
