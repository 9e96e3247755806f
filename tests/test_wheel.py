"""The wheel, built from the source archive and installed into an empty environment."""

import os
import pathlib
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile

import pytest

from blockdiff.commands import programs

ROOT = pathlib.Path(__file__).parent.parent


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
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin/python"
    (wheel,) = dist.glob("*.whl")
    call(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel)
    site = call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    # a path file is not looked for in there, so this does not lead to the checkout
    pathlib.Path(site, "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def test_the_wheel_holds_the_agent_and_the_pages(dist):
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    agent = {f"blockdiff/agent/{path.name}" for path in (ROOT / "agent").glob("*.py")}
    assert {name for name in names if name.startswith("blockdiff/agent/")} == agent
    pages = {f"share/man/man{path.suffix[1:]}/{path.name}" for path in (ROOT / "man").iterdir()}
    assert {name.partition(".data/data/")[2] for name in names if ".data/" in name} == pages
    assert not {name for name in names if name.startswith(("agent/", "tests/", "bin/"))}


def test_the_source_archive_holds_what_tests_need(dist):
    (source,) = dist.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = ["Makefile", "README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml", ".ci/run", "agent/assembler.py"]
    wanted += [f"bin/{path.name}" for path in (ROOT / "bin").iterdir()]
    wanted += [f"tests/{path.name}" for path in (ROOT / "tests").iterdir() if path.is_file()]
    wanted += [path.relative_to(ROOT).as_posix() for path in (ROOT / "tests/vectors").rglob("*") if path.is_file()]
    assert not set(wanted) - names


def test_every_program_is_installed(installed):
    names = {path.name for path in (installed / "bin").iterdir()}
    assert not {*programs.PROGRAMS, *programs.ORIGINAL} - names
    for path in (ROOT / "man").iterdir():
        assert (installed / f"share/man/man{path.suffix[1:]}/{path.name}").is_file()


def test_installed_programs_back_up_and_restore(installed, tmp_path):
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
