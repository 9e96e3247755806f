"""blockdiff-check as a launched program: what monitoring reads of it."""

import datetime
import json
import os
import re
import subprocess

import chains
import pytest
from tracing import calls, needs_strace
from verbs import BLOCK, environment, words

from blockdiff import codecs

LATE = ("--age", "36500d", "--proved", "36500d", "--still", "36500d")  # the sets of these tests are old


@pytest.fixture
def other(plain_set, tmp_path):
    """A second set, whose diff file is gone."""
    made = chains.new_set(tmp_path, "other")
    chains.write_version(made, b"x", BLOCK)
    os.unlink(made.path(1, ".gz"))
    return made


def test_codes_and_lines(run_verb, plain_set, other, tmp_path):
    well = run_verb("check", *LATE, plain_set.name)
    assert (well.returncode, well.err) == (0, "")
    assert re.fullmatch(r"BLOCKDIFF OK - 1 set, the newest version of each at most .* old\n", well.out)
    assert run_verb("check", "-q", *LATE, plain_set.name).out == ""

    both = run_verb("check", *LATE, tmp_path)
    first, *lines = both.out.splitlines()
    assert both.returncode == 2
    assert first.startswith("BLOCKDIFF CRITICAL - 1 of 2 sets critical: other: version 1 does not restore: ")
    assert lines[0].startswith(f"CRITICAL {other.name}: version 1 does not restore") and lines[-1] == "OK 1"
    assert run_verb("check", "--age", "1s:36500d", "--proved", "36500d", "--still", "36500d", plain_set.name).returncode == 1
    never = run_verb("check", *LATE, plain_set.name, tmp_path / "never")
    assert never.returncode == 2 and "no such set" in never.out


@pytest.mark.parametrize(
    "words", [(), ("--bad", "x"), ("--age", "2d:1d", "x"), ("--age", "1h:2h:3h", "x"), ("--points", "0", "x")], ids=str
)
def test_wrong_usage_is_unknown(words, run_verb):
    done = run_verb("check", *words)
    assert (done.returncode, done.out) == (3, "") and "Error: " in done.err


def test_what_cannot_be_written_is_unknown(run_verb, plain_set, tmp_path):
    done = run_verb("check", *LATE, "--prometheus", tmp_path / "none" / "m.prom", plain_set.name)
    assert done.returncode == 3 and done.out.startswith("BLOCKDIFF UNKNOWN - ")


def test_at_most_twenty_findings_are_listed(run_verb, tmp_path):
    done = run_verb("check", *(tmp_path / f"n{n}" for n in range(25)))
    lines = done.out.splitlines()
    assert len(lines) == 22 and lines[-1] == "and 5 more" and lines[0].startswith("BLOCKDIFF CRITICAL - 25 of 25 sets")


def test_performance_data(run_verb, plain_set):
    first = run_verb("check", *LATE, "--perfdata", plain_set.name, env={"LC_ALL": "de_DE.UTF-8"}).out.splitlines()[0]
    text, _, data = first.partition(" | ")
    assert "|" not in text
    figures = re.fullmatch(r"'age'=\d+s;\d+;\d+;0 'points'=3 'proved'=(\d+)s;\d+;\d+;0 'stored'=\d+B 'room'=\d+s", data)
    assert int(figures[1]) > 86400  # what was never proved counts from its begin
    assert run_verb("verify", plain_set.name).returncode == 0
    told = run_verb("check", *LATE, "--perfdata", plain_set.name).out
    assert int(re.search(r" 'proved'=(\d+)s", told)[1]) < 86400


def test_prometheus(run_verb, plain_set, tmp_path):
    odd = chains.new_set(tmp_path, 'od"d\\\n')
    chains.write_version(odd, b"x", BLOCK)
    path = tmp_path / "out.prom"
    path.write_text("old")
    assert run_verb("check", *LATE, "-q", "--prometheus", path, plain_set.name, odd.name).returncode == 0
    text = path.read_text()
    assert oct(path.stat().st_mode & 0o777) == "0o644" and not list(tmp_path.glob(".out.prom*"))
    sample = re.compile(r'blockdiff_\w+(\{set="(?:[^"\\\n]|\\["\\n])*"\})? \d+')
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(sample.fullmatch(line) for line in lines) and len(lines) == 11
    assert 'set="' + odd.name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") in text
    assert f'blockdiff_restore_points{{set="{plain_set.name}"}} 3' in lines
    for name in {line.split("{")[0].split(" ")[0] for line in lines}:
        assert text.count(f"# TYPE {name} gauge\n") == 1


def test_table_and_json(run_verb, plain_set, other, tmp_path):
    shown = run_verb("check", *LATE, "-v", tmp_path).out.splitlines()
    assert shown[0].split()[:3] == ["state", "set", "newest"]
    assert [line.split()[0] for line in shown[1:3]] == ["CRITICAL", "OK"]
    assert shown[-1].startswith("BLOCKDIFF CRITICAL - ")
    told = json.loads(run_verb("check", *LATE, "--json", tmp_path).out)
    assert (told["state"], told["exit_code"]) == ("CRITICAL", 2)
    assert [(one["set"], one["state"], one["points"]) for one in told["sets"]] == [
        (other.name, "CRITICAL", 0), (plain_set.name, "OK", 3),
    ]  # fmt: skip
    assert told["sets"][1]["begun"] == "2026-01-04T01:00:00Z" and told["sets"][1]["oldest_proof"] is None
    before = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    assert run_verb("verify", plain_set.name).returncode == 0
    (one,) = json.loads(run_verb("check", *LATE, "--json", plain_set.name, env={"TZ": "Asia/Tokyo"}).out)["sets"]
    proof = datetime.datetime.strptime(one["oldest_proof"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.UTC)
    assert before <= proof <= datetime.datetime.now(datetime.UTC) and one["begun"] == told["sets"][1]["begun"]


def test_the_kernel_is_asked_for_nothing_large_and_for_no_lock(plain_set, tmp_path):
    """Of the whole program: of a set only its folder, manifests and `.ver` are read, and four bytes of a digest file."""
    needs_strace()
    folder = os.path.dirname(plain_set.name)
    for codec in (codecs.GZIP, codecs.ZSTD):
        backup_set = chains.new_set(folder, f"set-{type(codec).__name__}")
        for _ in range(2):
            chains.write_version(backup_set, os.urandom(30 * BLOCK), BLOCK, codec)
    log = tmp_path / "log"
    strace = ["strace", "-f", "-qq", "-y", "-s", "0", "-o", log, "-e", "trace=%file,%desc,read,pread64,mmap,flock,fcntl"]
    asked = [*words("check", *LATE, "-v", folder, f"{folder}/never")]
    done = subprocess.run([*strace, *asked], capture_output=True, text=True, env=environment(tmp_path), cwd="/")
    assert done.returncode == 2 and "no such set" in done.stdout
    assert done.stdout.count("\nOK ") == len(list(tmp_path.glob("*.ver"))) == 3

    opened, lengths = [], {}
    for name, arguments, result in calls(log):
        path = re.search(rf'["<]({re.escape(folder)}(?:/[^">]*)?)[">]', arguments)
        if path is None or path[1].startswith((f"{folder}/state/", str(log))):
            continue
        assert name not in ("flock", "mmap", "sendfile") and "F_SETLK" not in arguments and "F_OFD" not in arguments
        if name.startswith("open") and int(result) >= 0:
            assert "O_RDONLY" in arguments and "O_CREAT" not in arguments
            opened.append(path[1])
        elif "read" in name:
            lengths[path[1]] = lengths.get(path[1], 0) + int(result)
    assert {os.path.splitext(name)[1] for name in opened if name != folder} == {".json", ".md5", ".ver"}
    assert {length for name, length in lengths.items() if name.endswith(".md5")} == {4}
