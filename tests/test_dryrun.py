"""--dry-run of a backup: what would be done, and nothing is."""

import json
import os

import chains
import pytest
from engine import back_up, files_of
from launched import Launched, Set
from programs import until

from blockdiff import codecs
from blockdiff.commands import text
from blockdiff.sets.backupset import BackupSet

BLOCK = 64 * 1024
CHANGED, NO_VOLUME, WARNED, NO_ROOM = 37, 30, 3, 13


@pytest.fixture
def begun(tmp_path):
    """A set that has not begun, and its source."""
    found = Set(tmp_path / "backups")
    found.source = tmp_path / "volume"
    found.source.write_bytes(os.urandom(8 * BLOCK))
    return found


@pytest.fixture
def look(run, begun):
    """Run it dry; returns (exit code, output, lines on stderr), and nothing was touched, not even the lock file."""

    def look(*words, **options):
        before = {path.name: path.stat() for path in begun.folder.iterdir()}
        done = run("blockdiff-backup", "--dry-run", *words, **options)
        after = {path.name: path.stat() for path in begun.folder.iterdir()}
        assert {name: (s.st_ino, s.st_mtime_ns, s.st_size) for name, s in after.items()} == {
            name: (s.st_ino, s.st_mtime_ns, s.st_size) for name, s in before.items()
        }
        return done.returncode, done.stdout, done.stderr.splitlines()

    return look


def told(look, *words, code=0):
    found, out, _ = look("--json", *words)
    assert found == code, out
    return json.loads(out)


def test_a_first_version(begun, look):
    assert told(look, begun.name, begun.source) == {
        "dry_run": True, "name": begun.name, "version": 1, "kind": "full", "parent": None, "suffix": ".gz",
        "block_size": BLOCK, "snapshot": None, "lock": False, "new_source": False, "warnings": [],
        "least": told(look, begun.name, begun.source)["least"],
        "source": {
            "host": "localhost", "path": str(begun.source), "kind": "file", "size": 8 * BLOCK, "lv_uuid": None,
        },
    }  # fmt: skip
    code, out, err = look(begun.name, begun.source)
    assert (code, err) == (0, [f"looking at: {begun.source}"])
    assert out.splitlines() == [
        f"would write version 1 of {begun.name}: full",
        f"  read {begun.source}: file, {text.size(8 * BLOCK)}, blocks of {text.size(BLOCK)}",
        "  no snapshot",
    ]
    exact = look("-v", begun.name, begun.source)[1].splitlines()[1]
    assert exact == f"  read {begun.source}: file, {8 * BLOCK} bytes, blocks of {BLOCK} bytes"


def test_it_says_what_the_run_then_does(begun, look, run):
    back_up(begun.name, begun.source, block_size=4096)
    for options in ([], ["--full"], ["--zstd"], ["--full", "--block-size", "8192"], ["--compress", "none"]):
        plan = told(look, *options, begun.name, begun.source)
        done = run("blockdiff-backup", "-q", *options, begun.name, begun.source)
        assert (done.returncode, done.stderr) == (0, "")
        made = json.loads((begun.folder / f"db.{plan['version']}.json").read_text())
        for key in ("version", "kind", "parent", "block_size", "source"):
            assert plan[key] == made[key], options
        assert plan["suffix"] in made["files"]
        assert plan["least"] <= sum(entry["size"] for entry in made["files"].values())


def test_it_fails_as_the_run_does(begun, look, run, tmp_path):
    back_up(begun.name, begun.source)
    other = tmp_path / "other"
    other.write_bytes(b"x" * 8 * BLOCK)
    holes = tmp_path / "holes"
    holes.touch()
    os.truncate(holes, 8 << 40)
    for code, words in (
        (CHANGED, [begun.name, other]),
        (CHANGED, [begun.name, holes]),
        (NO_ROOM, ["--full", "--block-size", "1", "--new-source", begun.name, holes]),
        (NO_VOLUME, ["--new-source", begun.name, tmp_path / "missing"]),
        (34, ["--block-size", "8192", begun.name, begun.source]),
        (10, [begun.folder, begun.source]),
        (2, [begun.name, "some", "command"]),
        (31, ["--lock", "true", begun.name, begun.source]),
    ):
        found, out, err = look(*words)
        assert (found, out) == (code, ""), err
        if code != 2:
            said = run("blockdiff-backup", *words).stderr.splitlines()[-1]
            assert said.split(" and ")[0] == err[-1].split(" and ")[0]  # how much is free changes
    assert told(look, "--new-source", begun.name, other)["kind"] == "incremental"


def test_a_run_under_way_is_not_disturbed(begun, look):
    """It takes no lock; what another run is writing is left alone."""
    back_up(begun.name, begun.source)
    begun.source.write_bytes(os.urandom(8 * BLOCK))
    with Launched("blockdiff-backup", "--bwlimit", "256K", begun.name, begun.source) as under_way:
        until(lambda: list(begun.folder.glob("*.idx.*part")))
        os.kill(under_way.pid, 19)
        os.kill(under_way.agent(), 19)
        assert told(look, begun.name, begun.source)["version"] == 2
        os.kill(under_way.agent(), 18)
        os.kill(under_way.pid, 18)
        assert under_way.finish()[0] == 0


def test_a_parent_that_is_damaged(begun, look):
    back_up(begun.name, begun.source)
    (begun.folder / "db.1.md5").write_bytes(b"")
    plan = told(look, begun.name, begun.source, code=WARNED)
    assert (plan["kind"], len(plan["warnings"])) == ("full", 1)
    assert look("--no-auto-full", begun.name, begun.source)[0] == 51


@pytest.mark.parametrize("version", [1, 2])
def test_a_version_that_a_run_would_adopt(begun, look, version):
    for _ in range(version):
        back_up(begun.name, begun.source)
    ver = begun.folder / "db.ver"
    ver.unlink() if version == 1 else ver.write_bytes(b"1\n")
    code, out, err = look(begun.name, begun.source)
    assert (code, out.splitlines()[0]) == (
        0, f"would write version {version + 1} of {begun.name}: incremental on version {version}",
    )  # fmt: skip
    assert any("adopt" in line for line in err)


def test_a_set_of_the_original(begun, look):
    chains.write_version(BackupSet(begun.name), begun.source.read_bytes(), BLOCK, codecs.GZIP, original=True)
    assert told(look, begun.name, begun.source)["parent"] == 1
    assert told(look, begun.name, "blockdiff_dump", "-z", begun.source)["parent"] == 1


def test_several_sources_are_a_line_each(begun, look, tmp_path):
    code, out, _ = look("--json", "--with", begun.folder / "more", begun.source, begun.name, begun.source)
    assert (code, [json.loads(line)["name"] for line in out.splitlines()]) == (
        0, [begun.name, str(begun.folder / "more")],
    )  # fmt: skip
    assert files_of(begun.folder) == {}
