"""blockdiff-list as a launched program: output and exit codes."""

import json
import os

import chains
from verbs import BLOCK

from blockdiff.formats import manifest


def test_list_of_a_set_and_of_a_folder(run_verb, plain_set, tmp_path):
    chains.write_version(chains.new_set(tmp_path, "other"), b"x", BLOCK)

    one, both = run_verb("list", plain_set.name), run_verb("list", tmp_path)

    assert (one.returncode, one.err, both.returncode, both.err) == (0, "", 0, "")
    lines = one.out.splitlines()
    assert lines[0].startswith(f"{plain_set.name}: 3 versions") and len(lines) == 6
    assert lines[5] == f"to restore 1-3: {30 * BLOCK} bytes, lvcreate -L {30 * BLOCK}b"
    source = plain_set.read_manifest(3).value["source"]
    assert lines[0].endswith(f", of {source['path']}"), source
    assert lines[1].split() == ["version", "kind", "time", "size", "changed", "stored", "consistency", "restores"]
    assert lines[2].split()[:2] == ["1", "full"] and lines[4].split()[:2] == ["3", "incremental"]
    assert both.out.count("versions,") == 2
    assert run_verb("list", cwd=tmp_path).out.count("versions,") == 2


def test_list_json(run_verb, plain_set):
    told = json.loads(run_verb("list", "--json", plain_set.name).out)

    (one,) = told["sets"]
    assert one["newest"] == 3 and [v["changed_blocks"] for v in one["versions"]] == [30, 1, 1]
    assert all(v["restores"] and v["size"] == 30 * BLOCK for v in one["versions"])


def test_list_shows_how_a_version_was_read(run_verb, plain_set):
    hint = {"method": "thin_delta", "blocks": 3, "audited": 1, "wrong": None}
    for number, told in ((1, {**hint, "method": "mappings"}), (2, hint), (3, {**hint, "wrong": 512})):
        data = manifest.encode({**plain_set.read_manifest(number).value, "hint": told})
        with open(plain_set.path(number, ".json"), "wb") as file:
            file.write(data)

    lines = run_verb("list", plain_set.name).out.splitlines()
    assert [line.split("20")[0].split(None, 1)[1].strip() for line in lines[2:5]] == [
        "full, by mappings", "incremental, by thin_delta", "incremental, hint wrong",
    ]  # fmt: skip
    (one,) = json.loads(run_verb("list", "--json", plain_set.name).out)["sets"]
    assert [version["hint"]["method"] for version in one["versions"]] == ["mappings", "thin_delta", "thin_delta"]


def test_list_tells_what_does_not_restore(run_verb, plain_set):
    os.unlink(plain_set.path(2, ""))
    done = run_verb("list", plain_set.name)
    assert done.returncode == 0
    assert [line.split("NO: ")[-1][:9] for line in done.out.splitlines()[3:5]] == [f"{plain_set.name}"[:9], "version 2"]


def test_list_exit_codes(run_verb, plain_set, tmp_path):
    assert run_verb("list", tmp_path / "none").returncode == 10
    (tmp_path / "empty").mkdir()
    assert run_verb("list", tmp_path / "empty").out == "no sets\n"
    os.unlink(plain_set.name + ".ver")
    assert run_verb("list", plain_set.name).returncode == 14


def test_sizes_for_a_restore_are_exact(run_verb, tmp_path):
    """Of each version; lvcreate takes whole sectors only, and an original's last block may be short."""
    backup_set = chains.new_set(tmp_path)
    for size in (2000, 2000, 1024, 2000):
        chains.write_version(backup_set, bytes(size), 1000)
    for number in (1, 2):
        os.unlink(backup_set.path(number, ".json"))
    assert run_verb("list", backup_set.name).out.splitlines()[-3:] == [
        "to restore 1-2: at most 2000 bytes, lvcreate -L 2048b",
        "to restore 3: 1024 bytes, lvcreate -L 1024b",
        "to restore 4: 2000 bytes, lvcreate -L 2048b",
    ]


def test_times_are_those_of_the_log_and_json_is_in_utc(run_verb, plain_set):
    """As cronlog's lines have them: in the zone of this machine, which is named."""
    shown = run_verb("list", plain_set.name, env={"TZ": "XYZ-5:30"}).out.splitlines()[2]
    assert "2026-01-02 06:32:03 XYZ" in shown
    (one,) = json.loads(run_verb("list", "--json", plain_set.name, env={"TZ": "XYZ-5:30"}).out)["sets"]
    assert one["versions"][0]["time"] == "2026-01-02T01:02:03Z"
