"""The list of blockdiff-run: words, lines that are refused before anything starts, sets that are named twice."""

import json
import os

import click
import pytest

from blockdiff.commands import joblist
from blockdiff.errors import StoreUnreadable


@pytest.fixture
def listed(tmp_path):
    """Return a function that writes a list, and reads it."""

    def listed(text, *options):
        path = tmp_path / "jobs.list"
        path.write_bytes(os.fsencode(text))
        return joblist.read(str(path), options)

    return listed


@pytest.mark.parametrize("line, words", [
    ("", []), ("  \t", []), ("# all of it", []), ("   # indented", []), ("a b", ["a", "b"]), ("a b\r", ["a", "b"]),
    ("a b # and why", ["a", "b"]), ("a b#c", ["a", "b#c"]), ("a#1 'b #2'", ["a#1", "b #2"]), ("a '#b'", ["a", "#b"]),
    ("a \\#b", ["a", "#b"]), ("'a b' \"c'd\"", ["a b", "c'd"]), ("a\\ b ''", ["a b", ""]), ("$HOME *", ["$HOME", "*"]),
    ("a 'b'#c", ["a", "b#c"]),
])  # fmt: skip
def test_words_are_those_of_a_shell(line, words):
    assert joblist.split(line) == words


@pytest.mark.parametrize("line", ["a 'b", 'a "b', "a b\\", "a b\0c"])
def test_words_that_no_shell_would_read(line):
    with pytest.raises(click.UsageError):
        joblist.split(line)


def test_lines(listed, tmp_path):
    first, second, third, last = listed(
        "# what\n\ndb root@DB00:/dev/vg0/db --lock 'mysqllock --host=db00'\n"
        f"{tmp_path}/a /srv/a --with b nas:/srv/b\nold ssh_lvm_dump --gzip root@db01 /dev/vg0/x\nother /bin/prog x y",
        "--max-time", "6h",
    )  # fmt: skip
    assert (first.number, first.names, first.hosts) == (3, ("db",), {"db00"})
    assert first.words == (
        "--max-time", "6h", "db", "root@DB00:/dev/vg0/db", "--lock", "mysqllock --host=db00",
    )  # fmt: skip
    assert (second.names, second.hosts) == ((f"{tmp_path}/a", "b"), {"localhost", "nas"})
    assert (third.names, third.hosts, last.names, last.hosts) == (("old",), {"db01"}, ("other",), {"localhost"})


@pytest.mark.parametrize("bad, why", [
    ("a 'b", "No closing quotation"), ("a", "SOURCE"), ("a b --no-such", "--no-such"), ("--help", "--help"),
    ("a b --compress lzma", "lzma"), ("a host:", "no path"), ("a b --json", "blockdiff-run --json LIST"),
    ("a b --dry-run", "blockdiff-run --dry-run LIST"), ("blockdiff-backup a b", "not with the program"),
    ("./x/y b", "named twice, first in line 1"), ("q b --with q c", "named twice"), ("a b --rsh \"it's\"", "--rsh"),
    ("a b --lock \"it's\"", "--lock"), ("a prog x --zstd", None), ("--zstd a prog x", "--compress"),
])  # fmt: skip
def test_a_bad_line_is_named(listed, bad, why, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("x")
    if why is None:
        assert len(listed(f"link/y b\n#\n{bad}\nz b")) == 3
        return
    with pytest.raises(click.UsageError, match=r"jobs\.list, line 3: ") as error:
        listed(f"link/y b\n#\n{bad}\nz b")
    assert why in error.value.message


def test_a_set_in_a_store_is_the_same_however_it_is_spelled(listed):
    lines = listed("s3://z/x/y b\ns3://z/x/yy b\ns3://z/y b\n")
    assert [line.names for line in lines] == [("s3://z/x/y",), ("s3://z/x/yy",), ("s3://z/y",)]
    with pytest.raises(click.UsageError, match=r"line 2: the set s3://z/x//y is named twice, first in line 1"):
        listed("s3://z/x/y b\ns3://z/x//y b")


@pytest.mark.parametrize("options", [["x"], ["--zstd", "x"], ["--no-such"], ["--with", "x", "y"], ["--json"], ["--", "x"]])
def test_only_options_can_be_given_to_all(listed, options):
    with pytest.raises(click.UsageError, match="after --: "):
        listed("a b", *options)


def test_a_list_without_a_backup(listed, tmp_path):
    for text in ("", "# nothing\n\n"):
        with pytest.raises(click.UsageError, match="names no backup"):
            listed(text)
    with pytest.raises(StoreUnreadable):
        joblist.read(str(tmp_path / "missing"))


def test_names_that_are_not_text(listed):
    (line,) = listed(os.fsdecode(b"\xff\xfe x"))
    assert line.names == (os.fsdecode(b"\xff\xfe"),)


# the option --list


def test_verify_and_list_take_their_names_from_it(run, tmp_path):
    volume, jobs = tmp_path / "volume", tmp_path / "jobs"
    volume.write_bytes(os.urandom(100_000))
    names = [str(tmp_path / name) for name in ("a", "b b", "c")]
    jobs.write_text(f"{names[0]} {volume}\n'{names[1]}' {volume} --with {names[2]} {volume}\n")
    assert run("blockdiff-run", "-q", jobs).returncode == 0
    told = json.loads(run("blockdiff-list", "--json", "--list", jobs).stdout)
    assert [each["set"] for each in told["sets"]] == names
    verified = run("blockdiff-verify", "--json", "--list", jobs, names[2])
    assert verified.returncode == 0
    assert sorted(json.loads(line)["set"] for line in verified.stdout.splitlines()) == sorted(names)
    assert run("blockdiff-verify", "--list", "-", input=jobs.read_text()).stdout.count("versions that restore: 1") == 3
    (tmp_path / "a.1.gz").unlink()
    for path in tmp_path.glob("b b.*"):
        path.unlink()
    verified = run("blockdiff-verify", "--json", "--list", jobs)
    gone, unread, good = map(json.loads, verified.stdout.splitlines())
    assert (gone["exit_code"], unread["error"]["exit_code"], good["exit_code"]) == (verified.returncode, 10, 0)
    assert verified.returncode in (51, 52)
    assert f"blockdiff: {names[0]}: version 1: " in verified.stderr
    assert run("blockdiff-verify").returncode == 2
    assert run("blockdiff-verify", "--to", "1", *names).returncode == 2
    assert run("blockdiff-verify", "--list", tmp_path / "missing").returncode == 17
