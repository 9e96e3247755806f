"""The manual pages against the program: every option, every exit code, every section that a docstring cites."""

import json
import os
import re
import shutil
import subprocess
import sys

import click
import pytest
import raising
from conftest import OURS
from mdoc import MAN, ROOT, Page, codes, flags, items, plain
from options import EVERY_OPTION, ORIGINAL, command_of, options_of
from seals import Key

from blockdiff.commands import joblist, programs
from blockdiff.errors import Interrupted

PAGES = sorted(path.name for path in MAN.glob("*.[0-9]") if not path.is_symlink())
COMMANDS = [name for name in programs.PROGRAMS if name != "blockdiff"]
INTERRUPTED = {129, 130, 143}
# besides those of errors that a command can raise
ALWAYS = {
    "blockdiff": {0, 2, *INTERRUPTED},
    "blockdiff-list": {0, 2, *INTERRUPTED},
    "blockdiff-nbd": {0, 2, *INTERRUPTED},  # others are its command's
    "blockdiff-report": {0, 2, *INTERRUPTED},
    "mysqllock": {2, *INTERRUPTED},  # others are its command's
    "blockdiff-check": {0, 1, 2, 3, *INTERRUPTED},  # those of Nagios; ours are in its text
    "cronlog": {2, 3, 126, 127},  # others are its command's, 128 + n for a signal, too
}
DONE = {0, 2, 3, *INTERRUPTED}
NO_SET = dict.fromkeys(
    ("NoSuchSet", "NoSuchVersion", "SetLocked", "ForeignFiles", "ChainBroken", "NotSigned", "SignatureLost"),
    "it is about no set",
)
NO_SIGNATURE = dict.fromkeys(("NotSigned", "SignatureLost"), "it does not look at signatures")
NO_STORE = dict.fromkeys(("SetChanged", "StoreRefused", "Sealed", "ProgramUnfit"), "it reads no set")
NO_SNAPSHOT = dict.fromkeys(
    ("SnapshotRefused", "SnapshotOverflowed", "LockUnreachable", "LockNotGranted", "LockLost"), "it makes no snapshot"
)
# errors that are made in a module which a command imports, but not on its way; and why
NEVER = {
    "blockdiff-backup": {"NoSuchVersion": "it builds on the version that NAME.ver names"},
    "blockdiff-dump": NO_SET | NO_SNAPSHOT | NO_STORE,
    "ssh-blockdiff-dump": NO_SET | NO_SNAPSHOT | NO_STORE,
    "ssh-lvm-dump": NO_SET | NO_STORE,
    "blockdiff": {"RunTooLong": "its commands have the option, it has not"},
    "blockdiff-merge": {
        **dict.fromkeys(("SetLocked", "StoreFailed"), "it does not write to the set"),
        **dict.fromkeys(("SnapshotRefused", "SnapshotOverflowed"), "it makes no snapshot"),
    },
    "blockdiff-verify": {
        **dict.fromkeys(("SetLocked", "NoRoom", "StoreFailed", "CommandFailed"), "it writes nothing"),
        "RunTooLong": "it has no such option",
    },
    "blockdiff-check": dict.fromkeys(raising.codes_of("check"), "its codes are Nagios'; ours are in its text"),
    "blockdiff-prune": {"RunTooLong": "it has no such option"},
    "blockdiff-list": {
        **dict.fromkeys(("SetLocked", "NoRoom", "StoreFailed"), "it writes nothing"),
        **dict.fromkeys(
            ("NoSuchVersion", "NotOurFormat", "NewerManifest", "DamagedFile", "MissingFile"), "it is told in the list"
        ),
        **NO_SIGNATURE,
    },
    "blockdiff-nbd": dict.fromkeys(("SetLocked", "NoRoom", "StoreFailed"), "it writes nothing"),
    "blockdiff-look": dict.fromkeys(("SetLocked", "StoreFailed"), "it writes nothing to the set"),
    "blockdiff-copy": {"SourceChanged": "it reads no source", "RunTooLong": "it has no such option"},
    "blockdiff-drill": {
        "SetLocked": "it writes nothing to the set",
        "TargetFailed": "its clone is not kept",
        **dict.fromkeys(("LockUnreachable", "HostSilent"), "the drill failed then"),
        "RunTooLong": "it has no such option",
    },
    "blockdiff-report": {
        **dict.fromkeys(
            (
                "NoSuchSet", "NoSuchVersion", "SetLocked", "SetChanged", "ForeignFiles", "NotOurFormat", "NewerManifest",
                "DamagedFile", "MissingFile", "StoreRefused", "Sealed",
            ),
            "it is on the page",
        ),
        **NO_SIGNATURE,
    },
    "blockdiff-run": {
        "StoreFailed": "it writes no log",
        **dict.fromkeys(
            (
                "SetLocked", "SetChanged", "NoRoom", "ForeignFiles", "StoreRefused", "NotOurFormat", "DamagedFile", "Sealed",
                "ProgramUnfit",
            ),
            "it looks at no set",
        ),
    },
    "cronlog": {"Interrupted": "the signal is passed on to its command"},
}


THEIRS = {"--all", "--delay-updates", "--delete-after"}  # options of other programs, in examples


# the pages themselves


def test_every_program_has_a_page_under_each_of_its_names():
    for name in programs.PROGRAMS:
        assert f"{name}.1" in PAGES
    for name in ORIGINAL:
        assert os.readlink(MAN / f"{name}.1") == f"{name.replace('_', '-')}.1"
        title = " ".join(Page(f"{name}.1").section("NAME"))
        assert name in title


@pytest.mark.parametrize("name", PAGES)
def test_mandoc_finds_nothing_to_say(name):
    if shutil.which("mandoc") is None:
        assert os.environ.get("BLOCKDIFF_REQUIRE_LAB") != "1", "mandoc is not installed"
        pytest.skip("mandoc is not installed")
    done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", MAN / name], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name", programs.PROGRAMS)
def test_a_command_page_has_all_its_sections(name):
    headings = Page(f"{name}.1").headings()
    for title in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "EXAMPLES", "SEE ALSO"):
        assert title in headings
    assert f".Nm {name}" in "\n".join(Page(f"{name}.1").section("NAME"))


@pytest.mark.parametrize("name", PAGES)
def test_pages_that_are_referred_to_exist(name):
    ours = re.compile(r"^\.Xr ((?:ssh-)?blockdiff[\w-]*|ssh-lvm-dump|mysqllock|cronlog) (\d)", re.M)
    found = ours.findall("\n".join(Page(name).lines))
    assert found
    assert not {f"{page}.{number}" for page, number in found} - set(PAGES)


# options


@pytest.mark.parametrize("name", programs.PROGRAMS)
def test_every_option_is_described_and_no_other(name):
    assert Page(f"{name}.1").described_options() == options_of(name)


@pytest.mark.parametrize("name", PAGES)
def test_no_page_names_an_option_that_does_not_exist(name):
    assert not Page(name).mentioned_options() - EVERY_OPTION
    literal = "\n".join(Page(name).literal_blocks())
    assert not set(re.findall(r"(?<![\w-])--[a-z][\w-]*", literal)) - EVERY_OPTION - THEIRS


@pytest.mark.parametrize("name", COMMANDS)
def test_defaults_are_told(name):
    """A default that the program itself shows stands in the page, too."""
    body = {}
    page = Page(f"{name}.1")
    for head, lines in items(page.section("OPTIONS")):
        some = flags(f".It {head}") if head != "Xo" else {option for line in lines for option in flags(line)}
        body |= dict.fromkeys(some, plain(lines))
    for parameter in command_of(name).params:
        if isinstance(parameter, click.Option) and parameter.show_default and not parameter.is_flag:
            told = body[max(parameter.opts, key=len)]
            shown = f"{parameter.default:g}" if isinstance(parameter.default, float) else str(parameter.default)
            assert re.search(rf"Default: {re.escape(shown)}\b|{re.escape(shown)} , the default|As in ", told), told


# exit codes


@pytest.mark.parametrize("name", programs.PROGRAMS)
def test_a_page_has_the_exit_codes_that_its_command_can_give(name):
    can = raising.codes_of(programs.PROGRAMS[name])
    never = NEVER.get(name, {})
    assert not set(never) - set(can), "these need no exception any more"
    wanted = {raising.CLASSES[each].exit_code for each in set(can) - set(never)} | ALWAYS.get(name, DONE)
    told = codes(Page(f"{name}.1").section("EXIT STATUS"))
    assert sorted(told) == sorted(wanted)


def test_the_table_of_exit_codes_is_that_of_the_errors():
    told = {}
    for head, lines in items(Page("blockdiff.7").section("EXIT CODES")):
        for number in codes([".Bl", f".It {head}", ".El"]):
            assert number not in told
            told[number] = plain(lines)
    wanted = [(found.exit_code, found) for found in raising.CLASSES.values()]
    assert set(told) == {0, 2, 3, *(number for number, _ in wanted), *INTERRUPTED}
    for number, found in wanted:
        message = found.__doc__.splitlines()[0].replace("{}", "...")
        if message != "...":  # it has no words of its own
            assert message in told[number]
    assert Interrupted.__doc__.splitlines()[0].replace("{}", "...") in told[143]
    assert all(len(text) > 5 for text in told.values())


# what the sources say of the pages


def test_sections_that_the_sources_cite_exist():
    citation = re.compile(r'\b((?:ssh-)?[a-z]+(?:-[a-z]+)*)\((\d)\), ("[^"]+"(?:,? (?:and )?"[^"]+")*)')
    found = 0
    for folder in ("blockdiff", "agent"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            text = re.sub(r"\s+(?:# ?)?", " ", path.read_text())
            for page, number, titles in citation.findall(text):
                name = f"{page}.{number}"
                assert name in PAGES, (path, name)
                headings = {title.lower() for title in Page(name).headings()}
                for title in re.findall(r'"([^"]+)"', titles):
                    assert title.lower() in headings, (path, name, title)
                    found += 1
    assert found > 20


# examples


def shell(text, folder):
    """Run lines of a page as a shell does, in a folder."""
    environment = {name: value for name, value in os.environ.items() if name not in OURS}
    environment["PATH"] = os.pathsep.join((str(ROOT / "bin"), os.path.dirname(sys.executable), os.environ["PATH"]))
    environment |= {"HOME": str(folder), "XDG_STATE_HOME": str(folder / "state"), "TZ": "UTC"}
    return subprocess.run(
        ["sh", "-euc", text], cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture
def volume(tmp_path):
    """A volume of 8 MiB, in part zero."""
    path = tmp_path / "vol"
    path.write_bytes(os.urandom(3 << 20) + bytes(5 << 20))
    return path


def change(volume, place):
    with volume.open("r+b") as file:
        file.seek(place)
        file.write(b"123456789")


def test_the_dumps_of_the_examples(volume):
    plain_lines, descriptors = Page("blockdiff-dump.1").literal_blocks("EXAMPLES")
    first, *rest = plain_lines.splitlines()
    assert shell(first, volume.parent).returncode == 0
    change(volume, 70000)
    done = shell("\n".join(rest), volume.parent)
    assert done.returncode == 0, done.stderr
    assert (volume.parent / "copy").read_bytes() == volume.read_bytes()
    done = shell(descriptors, volume.parent)
    assert done.returncode == 0, done.stderr
    assert (volume.parent / "vol.2.gz").stat().st_size < 100


def three_versions(volume):
    for place in (0, 200000, 400000):
        done = shell("blockdiff-backup --quiet db00 vol", volume.parent)
        assert done.returncode == 0, done.stderr
        change(volume, place)


def shape(text):
    """Return a table without what differs from run to run."""
    text = re.sub(r"\d{4}-\d\d-\d\d [\d:]+ UTC", "TIME", text.replace("/var/backup/db00", "db00"))
    text = re.sub(r", of \S+$", ", of SOURCE", text, flags=re.M)
    return [re.sub(r"\s+", " ", re.sub(r"\d+\.\d [KM]iB", "SIZE", line)) for line in text.strip().splitlines()]


def test_the_tables_of_the_examples(volume):
    three_versions(volume)
    (listing,) = Page("blockdiff-list.1").literal_blocks("EXAMPLES")
    done = shell("blockdiff-list db00", volume.parent)
    assert shape(done.stdout) == shape(listing)[1:]
    with (volume.parent / "db00.2.gz").open("r+b") as file:
        file.seek(1000)
        file.write(b"decay")
    *_, table = Page("blockdiff-verify.1").literal_blocks("EXAMPLES")
    command, _, rest = table.partition("\n")
    done = shell(command.removeprefix("$ "), volume.parent)
    assert done.returncode == 53
    assert shape(done.stdout) == shape(rest)


def test_the_list_and_the_run_of_the_examples(volume):
    jobs, _, shown = Page("blockdiff-run.1").literal_blocks("EXAMPLES")
    (volume.parent / "jobs.list").write_text(jobs)
    hosts = [line.hosts for line in joblist.read(str(volume.parent / "jobs.list"))]
    assert hosts == [{"db00"}, {"nas"}, {"nas"}, {"localhost"}]
    (volume.parent / "jobs.list").write_text("db00 vol\nmail missing\n")
    command, _, wanted = shown.partition("\n")
    done = shell(command.removeprefix("$ "), volume.parent)
    assert done.returncode == 30
    said = done.stdout.replace(f"{os.uname().nodename} starting", "backup01 starting")
    times = [re.sub(r" \d+\.\d(?= )", " TIME", text) for text in (said.replace(str(volume.parent), "/srv"), wanted)]
    assert shape(times[0]) == shape(times[1])


def test_the_merge_by_hand_of_the_examples(volume):
    three_versions(volume)
    whole = shell("blockdiff-merge db00 whole", volume.parent)
    assert whole.returncode == 0, whole.stderr
    *_, by_hand = Page("blockdiff-merge.1").literal_blocks("EXAMPLES")
    done = shell(by_hand, volume.parent)
    assert done.returncode == 0, done.stderr
    assert (volume.parent / "disk").read_bytes() == (volume.parent / "whole").read_bytes()


# JSON


def keys(value):
    """Return all keys of an object, at any depth."""
    if isinstance(value, dict):
        return set(value) | {key for part in value.values() for key in keys(part)}
    if isinstance(value, list):
        return {key for part in value for key in keys(part)}
    return set()


def test_json_has_the_keys_that_the_pages_tell(volume):
    folder = volume.parent
    told = {name: Page(f"{name}.1").marked("JSON") for name in COMMANDS if "--json" in options_of(name)}
    del told["blockdiff-drill"], told["blockdiff-look"]  # commands/test_drill.py and test_look.py compare their keys
    said = {name: set() for name in told}

    def run(text):
        done = shell(text, folder)
        for line in done.stdout.splitlines() if done.stdout.startswith('{"') else [done.stdout]:
            said[text.split()[0]] |= keys(json.loads(line))
        return done.returncode

    assert run("blockdiff-backup --json db00 vol") == 0
    change(volume, 0)
    assert run("blockdiff-backup --json --dry-run db00 vol") == 0
    assert run("blockdiff-backup --json --new-source db00 missing") == 30
    assert run("blockdiff-backup --json --compress none db00 vol") == 0
    assert run("blockdiff-list --json db00") == 0
    assert run("blockdiff-check --json db00 none") == 2
    assert run("blockdiff-consolidate --json -n db00") == 0
    (folder / "away").mkdir()
    assert run("blockdiff-copy --json db00 away") == 0
    assert run("blockdiff-copy --json db00 missing away") == 10
    (folder / "sealed").mkdir()
    assert run(f"blockdiff-copy --json --recipient {Key().public} db00 sealed") == 0
    assert run("blockdiff-verify --json sealed/db00") == 55
    assert run("blockdiff-prune --json -n --keep-last 1 db00") == 0
    assert run("blockdiff-prune --json -n --keep-last 1 db00 missing") == 10
    (folder / "jobs").write_text("more vol\n")
    assert run("blockdiff-run --json jobs") == 0
    assert run("blockdiff-merge --json db00 copy") == 0
    assert run("blockdiff-merge --json copy < db00.2") == 0
    (folder / "lost").mkdir()
    with (folder / "db00.1.gz").open("r+b") as file:
        file.seek(100000)
        file.write(b"decay")
    assert run("blockdiff-copy --json db00 lost") == 51
    assert run("blockdiff-verify --json db00") == 53
    assert run("blockdiff-verify --json --oldest-first db00 missing") == 10
    assert run("blockdiff-merge --json db00 another") == 53
    assert said == told
