"""What blockdiff-consolidate prints, and its exit codes."""

import json
import pathlib
import re

from verbs import BLOCK, damage


def test_the_last_line_says_what_was_done(run_verb, plain_set):
    done = run_verb("consolidate", plain_set.name)

    assert (done.returncode, done.err) == (0, "")
    line = r".*vol: version 3 is a full now: .* of 3 versions read, every block proved twice, .* written, [\d.]+ s\n"
    assert re.fullmatch(line, done.out), done.out
    assert run_verb("consolidate", plain_set.name).out.endswith("version 3 is a full already\n")


def test_quiet_and_json(run_verb, plain_set):
    assert run_verb("consolidate", "-q", "--to", 3, "--onto", 1, plain_set.name).out == ""
    done = json.loads(run_verb("consolidate", "--json", plain_set.name).out)
    assert (done["version"], done["parent"], done["versions_read"], done["removed"]) == (3, None, 2, [])
    assert done["stored"] == plain_set.size(3, "") and done["already"] is False


def test_the_versions_between_are_named(run_verb, plain_set):
    assert "then 2 would be removed" in run_verb("consolidate", "-n", "--onto", 1, plain_set.name).out
    assert ", 2 removed, " in run_verb("consolidate", "--onto", 1, plain_set.name).out


def test_exit_codes(run_verb, plain_set, tmp_path):
    assert run_verb("consolidate", "--onto", 3, plain_set.name).returncode == 2
    assert run_verb("consolidate", tmp_path / "none").returncode == 10
    assert run_verb("consolidate", "--to", 9, plain_set.name).returncode == 11
    with plain_set.locked():
        assert run_verb("consolidate", "--wait", "1", plain_set.name).returncode == 12
    before = sorted(path.name for path in pathlib.Path(tmp_path).iterdir())
    damage(plain_set, 1, 4 + 10 * (8 + BLOCK) + 20)
    assert run_verb("consolidate", plain_set.name).returncode == 53
    pathlib.Path(plain_set.path(1, "")).unlink()
    assert run_verb("consolidate", plain_set.name).returncode == 51
    assert sorted(path.name for path in pathlib.Path(tmp_path).iterdir()) == [n for n in before if n != "vol.1"]
