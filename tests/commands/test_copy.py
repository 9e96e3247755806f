"""What blockdiff-copy prints, which sets it copies where, and its exit codes."""

import json
import os
import re

import chains
import pytest
from verbs import BLOCK, damage


@pytest.fixture
def away(tmp_path):
    """A folder for copies."""
    folder = tmp_path / "away"
    folder.mkdir()
    return folder


def test_a_line_for_each_version(run_verb, plain_set, away):
    done = run_verb("copy", "--dry-run", plain_set.name, away)
    assert (done.returncode, done.out) == (0, "") and list(away.iterdir()) == []
    assert re.search(r"vol: version 1 would be copied: full, [\d.]+ KiB\n", done.err)

    done = run_verb("copy", plain_set.name, away)
    assert (done.returncode, done.out) == (0, "")
    lines = [rf".*vol: version {n} copied: {kind}, [\d.]+ .*B in [\d.]+ s" for n, kind in ((1, "full"), (2, "incremental"), (3, "incremental"))]
    assert re.fullmatch("\n".join(lines) + "\n", done.err.replace("bytes", "B")), done.err

    done = run_verb("copy", plain_set.name, away / "vol")
    assert done.returncode == 0 and re.fullmatch(r".*vol: nothing to copy, .*vol has version 3\n", done.err)


def test_quiet_and_json(run_verb, plain_set, away):
    done = run_verb("copy", "-q", plain_set.name, f"{away}/")
    assert (done.returncode, done.out, done.err) == (0, "", "")
    chains.write_version(plain_set, os.urandom(3 * BLOCK), BLOCK)
    done = run_verb("copy", "--json", plain_set.name, away)
    found = json.loads(done.out)
    assert (done.returncode, done.err) == (0, "")
    assert (found["newest"], found["newest_before"], [one["version"] for one in found["versions"]]) == (4, 3, [4])


def test_all_sets_of_a_folder(run_verb, plain_set, away, tmp_path):
    chains.random_set(tmp_path, 1, BLOCK, base="www")
    (tmp_path / "jobs").write_text(f"{tmp_path}/www /dev/zero\n")
    done = run_verb("copy", "--json", tmp_path, tmp_path / "none", away)
    assert done.returncode == 10
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [[one["version"] for one in row.get("versions", [])] for row in rows] == [[1, 2, 3], [1], []]
    assert "none: no such set" in done.err
    assert run_verb("copy", "--list", tmp_path / "jobs", away).err.count("nothing to copy") == 1


def test_exit_codes(run_verb, plain_set, away, tmp_path):
    name = plain_set.name
    for words in (
        [name],
        [name, name],
        [name, tmp_path],
        [name, tmp_path / "more", away / "vol"],
        [name, tmp_path / "x" / "vol", away],
        ["--retain-days", 3, name, away],
        ["--storage-class", "COLD", name, away],
    ):
        assert run_verb("copy", *words).returncode == 2, words
    assert run_verb("copy", name, tmp_path / "none" / "vol").returncode == 10
    assert run_verb("copy", name, f"{tmp_path}/none/").returncode == 10
    damage(plain_set, 2, 20)
    done = run_verb("copy", name, away)
    assert done.returncode == 51
    assert "vol.2 is damaged" in done.err and "version 3 of" in done.err and "version 1 copied" in done.err
    assert sorted(path.name for path in away.iterdir() if path.suffix == ".md5") == ["vol.1.md5"]
