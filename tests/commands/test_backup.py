"""The whole command line of blockdiff-backup, as people and crontabs write it."""

import json
import os
import signal
import subprocess
import sys
import time

import numbers_line
import pytest
from engine import back_up
from launched import Launched, Set, bin_path, needs
from programs import until

KIB = 1024
DONE, WARNED = "backup completed successfully", "backup completed with warnings"
USAGE, WARNINGS, NO_SET, LOCKED, STRANGE, DIFFERS = 2, 3, 10, 12, 14, 34


@pytest.fixture
def begun(tmp_path):
    """A set that has not begun, and its source."""
    found = Set(tmp_path / "backups")
    found.source = tmp_path / "volume"
    found.source.write_bytes(os.urandom(300 * KIB) + bytes(200 * KIB) + b"end")
    return found


@pytest.fixture
def call(run, begun):
    """Run blockdiff-backup; returns (exit code, output, lines on stderr)."""

    def call(*words, program="blockdiff-backup", **options):
        before = list(begun.folder.glob("db.*.json"))
        done = run(program, *words, **options)
        if done.returncode in (0, WARNINGS) and list(begun.folder.glob("db.*.json")) != before:
            begun.versions[begun.newest()] = begun.source.read_bytes()
        return done.returncode, done.stdout, numbers_line.without(done.stderr.splitlines())

    return call


def manifest(begun, number=1):
    return json.loads((begun.folder / f"db.{number}.json").read_text())


# commands of the original


def test_the_originals_name(call, begun):
    code, _, err = call(begun.name, begun.source, program="blockdiff_backup")
    assert (code, begun.files()) in ((16, {}), (27, {})), err  # the source is no program
    assert call(begun.name, "blockdiff_dump", "-z", begun.source, program="blockdiff_backup")[0] == 0
    begun.check()


@pytest.mark.parametrize(
    "program, options, suffix",
    [
        ("blockdiff-dump", [], ""),
        ("blockdiff_dump", ["-z"], ".gz"),
        ("/usr/local/bin/blockdiff_dump", ["--gzip"], ".gz"),
        ("./blockdiff-dump", ["--zstd"], ".zst"),
        ("blockdiff_dump", ["--lzop"], ".lzop"),
    ],
)
def test_a_composed_dump(call, begun, program, options, suffix):
    """The original's defaults count: blocks of 16 KiB, plain unless told otherwise."""
    if suffix == ".lzop":
        needs("lzop")
    code, out, err = call(begun.name, program, *options, begun.source)
    assert (code, out) == (0, "")
    assert err == [f"running: {' '.join([program, *options, str(begun.source)])}", DONE]
    assert (begun.folder / f"db.1{suffix}").exists()
    assert manifest(begun)["block_size"] == 16 * KIB
    assert call(begun.name, program, *options, "--blocksize", "16K", begun.source)[0] == 0
    begun.check()


def test_what_a_composed_dump_cannot_take(call, begun):
    for words in (["blockdiff-dump"], ["blockdiff-dump", "a", "b"], ["blockdiff-dump", "--no-such", begun.source],
                  ["ssh-blockdiff-dump", "host"], ["ssh-lvm-dump", "--output", "x", "host", "/dev/v/l"]):  # fmt: skip
        code, out, _ = call(begun.name, *words)
        assert (code, out) == (USAGE, ""), words
    code, _, _ = call("--block-size", "1K", begun.name, "blockdiff-dump", "--blocksize", "2K", begun.source)
    assert code == USAGE
    assert begun.files() == {}


# options


@pytest.mark.parametrize(
    "options, suffix",
    [
        ([], ".gz"),
        (["-z"], ".gz"),
        (["--gzip"], ".gz"),
        (["--zstd"], ".zst"),
        (["--compress", "gzip"], ".gz"),
        (["--compress=zstd"], ".zst"),
        (["--compress", "none"], ""),
    ],
)
def test_compression(call, begun, options, suffix):
    assert call(begun.name, *options, begun.source)[0] == 0
    assert (begun.folder / f"db.1{suffix}").exists()
    assert set(manifest(begun)["files"]) - {".md5", ".xxh128", ".idx"} == {suffix}
    assert manifest(begun)["block_size"] == 64 * KIB
    begun.check()


def test_the_suffix_may_differ_from_version_to_version(call, begun):
    for option in ("--zstd", "--gzip", "--compress=none", "--zstd"):
        assert call(option, begun.name, begun.source)[0] == 0
        begun.source.write_bytes(begun.source.read_bytes() + option.encode())
    begun.check()


def test_block_sizes(call, begun):
    """A set's block size silently beats BLOCKSIZE; an option that differs is an error, unless a full is made."""
    env = {"BLOCKSIZE": "4096"}
    assert call(begun.name, begun.source, env=env)[0] == 0
    assert manifest(begun)["block_size"] == 4096
    assert call(begun.name, begun.source, env={"BLOCKSIZE": "512"}) == (0, "", [f"running: {begun.source}", DONE])
    assert call("--blocksize", "4K", begun.name, begun.source)[0] == 0
    assert manifest(begun, 3)["block_size"] == 4096
    old = begun.files()
    for source in ([begun.source], ["blockdiff-dump", begun.source]):
        code, out, err = call("--block-size", "8K", begun.name, *source)
        assert (code, out) == (DIFFERS, "")
        assert "4096" in err[-1]
        assert "8192" in err[-1]
    assert begun.files() == old
    assert call("--block-size", "8K", "--full", begun.name, begun.source)[0] == 0
    assert manifest(begun, 4)["block_size"] == 8192
    assert call(begun.name, begun.source, env=env)[0] == 0
    assert (manifest(begun, 5)["kind"], manifest(begun, 5)["block_size"]) == ("incremental", 8192)
    begun.check()


def test_a_full_on_demand(call, begun):
    assert call(begun.name, begun.source)[0] == 0
    assert call("--full", begun.name, begun.source)[0] == 0
    assert (manifest(begun, 2)["kind"], manifest(begun, 2)["parent"]) == ("full", None)
    begun.check()


def test_rescan(call, begun):
    """Every MD5 is computed, and only what changed is stored all the same."""
    assert call(begun.name, begun.source)[0] == 0
    begun.source.write_bytes(b"x" + begun.source.read_bytes()[1:])
    assert call("--rescan", begun.name, begun.source)[0] == 0
    assert (manifest(begun, 2)["agent"]["digest"], manifest(begun, 2)["blocks"]["changed"]) == ("md5", 1)
    begun.check()


@pytest.mark.parametrize("options", [["--jobs", "1"], ["--jobs", "7"], ["--timeout", "1.5"], ["--bwlimit", "100M"]])
def test_options_that_change_nothing(call, begun, options):
    assert call(*options, begun.name, begun.source) == (0, "", [f"running: {begun.source}", DONE])
    begun.check()


def test_a_lock_around_what_is_no_logical_volume_is_refused_and_names_it(call, begun):
    code, _, err = call("--lock", "true", begun.name, begun.source)
    assert (code, len(err), begun.files()) == (31, 2, {}), err
    assert err[1].startswith(f"blockdiff: cannot snapshot {begun.source}: a lock is asked for, but ")


def test_a_limit_is_kept(call, begun):
    """Half a MiB at a MiB a second cannot take a quarter of a second."""
    begun.source.write_bytes(os.urandom(512 * KIB))
    began = time.monotonic()
    assert call("--bwlimit", "1M", begun.name, begun.source)[0] == 0
    assert time.monotonic() - began > 0.25


def test_verbose_and_quiet(call, begun):
    assert call("--quiet", begun.name, begun.source) == (0, "", [])
    for more in ({"env": {"VERBOSE": "1"}}, {"program": "blockdiff-backup"}):
        words = [] if "env" in more else ["--verbose"]
        code, out, err = call(*words, begun.name, begun.source, **more)
        assert (code, out, err[0], err[-1]) == (0, "", f"running: {begun.source}", DONE)


@pytest.mark.parametrize(
    "words",
    [
        [], ["{name}"], ["--no-such-option", "{name}", "{source}"], ["--compress", "lzma", "{name}", "{source}"],
        ["--block-size", "0", "{name}", "{source}"], ["--block-size", "17M", "{name}", "{source}"],
        ["--block-size", "x", "{name}", "{source}"], ["--timeout", "0", "{name}", "{source}"],
        ["--jobs", "-1", "{name}", "{source}"], ["--bwlimit", "fast", "{name}", "{source}"],
        ["{name}", "host:"], ["{name}", ":/path"], ["{name}", ""], ["{name}", "--"], ["{name}", "-evil:/path"],
        ["{name}", "[::1]"], ["{name}", "a b:/path"],
    ],
    ids=lambda words: " ".join(words) or "nothing",
)  # fmt: skip
def test_wrong_usage(call, begun, words):
    code, out, err = call(*[word.format(name=begun.name, source=begun.source) for word in words])
    assert (code, out) == (USAGE, "")
    assert err
    assert not any("Traceback" in line for line in err)
    assert begun.files() == {}


def test_a_blocksize_in_the_environment_that_is_none(call, begun):
    code, _, err = call(begun.name, begun.source, env={"BLOCKSIZE": "many"})
    assert code == USAGE
    assert "BLOCKSIZE" in err[-1]
    assert call(begun.name, begun.source, env={"BLOCKSIZE": ""})[0] == 0


def test_local_sources_with_colons(call, begun):
    """A colon makes a source remote only before the first slash."""
    folder = begun.folder.parent / "by-path"
    folder.mkdir()
    path = folder / "pci-0000:00:1f.2-ata-1"
    path.symlink_to(begun.source)
    assert call(begun.name, path)[0] == 0
    assert call(begun.name, f"./{path.name}", cwd=folder)[0] == 0
    begun.check()
    assert manifest(begun, 2)["source"]["path"] == str(path)


def test_a_relative_name_and_source(call, begun):
    assert call("backups/db", "volume", cwd=begun.folder.parent)[0] == 0
    assert call("db", "../volume", cwd=begun.folder)[0] == 0
    begun.check()


def test_a_folder_that_there_is_not(call, begun):
    for name in (begun.folder / "no" / "db", f"{begun.folder}/", begun.folder / ".."):
        code, out, err = call(name, begun.source)
        assert (code, out) == (NO_SET, "")
        assert len([line for line in err if line.startswith("blockdiff: ")]) == 1
    assert begun.files() == {}


# what is said


def test_under_cron(begun):
    """As cron's shell runs it: an environment of four words, no terminal, and every line in a mail."""
    line = f"{bin_path('blockdiff-backup')} {begun.name} {begun.source}"
    path = os.path.dirname(sys.executable) + ":/usr/bin:/bin"
    env = {"PATH": path, "HOME": "/", "SHELL": "/bin/sh", "LOGNAME": "root"}
    for _ in range(2):
        done = subprocess.run(["/bin/sh", "-c", line], env=env, capture_output=True, stdin=subprocess.DEVNULL)
        assert (done.returncode, done.stdout) == (0, b"")
        *said, numbers = done.stderr.decode().splitlines()
        assert said == [f"running: {begun.source}", DONE]
        assert numbers_line.LINE.fullmatch(numbers)


def test_json(call, begun):
    code, out, err = call("--json", begun.name, begun.source)
    assert (code, err) == (0, [f"running: {begun.source}", DONE])
    told = json.loads(out)
    kept = manifest(begun)
    same = {
        "name": begun.name, "version": 1, "kind": "full", "size": begun.source.stat().st_size, "warnings": [],
        "blocks": 8, "changed": 8, "zero": kept["blocks"]["zero"],
        **{name: kept["bytes"][name] for name in ("read", "wire", "payload", "stored")},
    }  # fmt: skip
    assert {name: told[name] for name in same} == same
    assert told["stored"] == (begun.folder / "db.1.gz").stat().st_size
    assert told["seconds"] >= 0
    assert len(out.splitlines()) == 1


def test_warnings_make_it_3(call, begun):
    """A damaged parent is not continued; the new version is whole."""
    assert call(begun.name, begun.source)[0] == 0
    digests = begun.folder / "db.1.md5"
    digests.write_bytes(digests.read_bytes()[:-1])
    code, out, err = call("--no-auto-full", begun.name, begun.source)
    assert (code, out, begun.newest()) == (51, "", 1)
    code, out, err = call(begun.name, begun.source)
    assert (code, out) == (WARNINGS, "")
    assert err[0] == f"running: {begun.source}"
    assert err[1].startswith("blockdiff: warning: version 1 cannot be continued, making a full version: ")
    assert err[2:] == [WARNED]
    assert manifest(begun, 2)["kind"] == "full"
    code, out, err = call("--quiet", "--json", begun.name, begun.source)
    assert (code, json.loads(out)["warnings"], err) == (0, [], [])


def test_warnings_in_json(call, begun):
    assert call(begun.name, begun.source)[0] == 0
    (begun.folder / "db.1.md5").write_bytes(b"")
    code, out, err = call("--quiet", "--json", begun.name, begun.source)
    assert code == WARNINGS
    about = f"{begun.name} from {begun.source}"
    assert [f"blockdiff: warning: {about}: {line}" for line in json.loads(out)["warnings"]] == err


def test_a_ver_that_lies(call, begun):
    assert call(begun.name, begun.source)[0] == 0
    for text in (b"", b"2\n", b"1", b"x\n"):
        (begun.folder / "db.ver").write_bytes(text)
        old = begun.files()
        code, out, err = call(begun.name, begun.source)
        assert (code, out) == (STRANGE, "")
        assert "hint: " in err[-1]
        assert begun.files() == old


def test_a_folder_that_cannot_be_written(begun, run):
    needs("setpriv")
    begun.folder.chmod(0o500)
    before = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    with Launched("blockdiff-backup", begun.name, begun.source, before=before) as done:
        code, _, err = done.finish()
    begun.folder.chmod(0o700)
    assert code == 15
    assert "Permission denied" in err[-1]


def test_two_runs_at_once(begun, call):
    assert call(begun.name, begun.source)[0] == 0
    begun.source.write_bytes(os.urandom(512 * KIB))
    with Launched("blockdiff-backup", "--bwlimit", "16K", begun.name, begun.source) as first:
        until(lambda: list(begun.folder.glob("*.idx.*.part")))
        old = begun.files()
        began = time.monotonic()
        code, out, err = call(begun.name, begun.source)
        assert (code, out) == (LOCKED, "")
        assert "locked by another run" in err[-1]
        assert time.monotonic() - began < 30
        assert {name: data for name, data in begun.files().items() if ".part" not in name} == {
            name: data for name, data in old.items() if ".part" not in name
        }
        # another set in the same folder is none of its business
        assert Set(begun.folder, "other").newest() == 0
        back_up(begun.folder / "other", begun.source)
        os.kill(first.pid, signal.SIGTERM)
        assert first.finish()[0] == 143
    assert call(begun.name, begun.source)[0] == 0
    begun.check()


# odd, but valid

ODD = [
    """it's two "words" """, "ünï-日本", "-dash", "--full", "db.11", "a\nline\tor \x1b[31mtwo", "\\*?[x]$HOME%s~",
    "x" * 240, b"\xff\xfe invalid",
]  # fmt: skip


@pytest.mark.parametrize("name", ODD, ids=lambda name: ascii(name)[:20])
def test_odd_names(name, tmp_path, run):
    """Of a set, its folder and its source alike."""
    name = os.fsdecode(name)
    folder = tmp_path / name
    folder.mkdir()
    found = Set(folder, name)
    found.source = tmp_path / f"source {name}"
    found.source.write_bytes(b"1" * 1000)
    done = run("blockdiff-backup", "--", found.name, found.source)
    assert done.returncode == 0, done.stderr
    assert (len(done.stderr.splitlines()), done.stdout) == (3, "")
    assert all(character.isprintable() for character in done.stderr.replace("\n", ""))
    found.versions[1] = found.source.read_bytes()
    # and from within, where names with dashes need no folder before them
    found.source.write_bytes(b"2" * 1000)
    done = run("blockdiff-backup", "--quiet", "--json", "--", name, f"../source {name}", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["name"] == name
    found.versions[2] = found.source.read_bytes()
    found.check()
    done = run("blockdiff-merge", "--", found.name, tmp_path / "restored")
    assert done.returncode == 0
    assert (tmp_path / "restored").read_bytes() == found.source.read_bytes()


def test_small_volumes_that_grow_and_shrink(call, begun):
    """Empty, one byte, a short last block, then grown, cut, and empty again."""
    for size in (0, 1, 4096, 4097, 10000, 9000, 3, 0, 5):
        begun.source.write_bytes(b"%d" % size * size)
        begun.source.write_bytes(begun.source.read_bytes()[:size])
        code, _, err = call("--new-source", "--block-size", "4096", begun.name, begun.source)
        assert code == 0, err
        assert manifest(begun, begun.newest())["source"]["size"] == size
    begun.check()


def test_set_names_that_begin_alike(call, begun):
    names = ["db", "db.1", "db.1.1", "db.11"]
    for turn in range(2):
        for name in names:
            begun.source.write_bytes(f"{name} {turn}".encode())
            back_up(begun.folder / name, begun.source)
    for name in names:
        found = Set(begun.folder, name)
        found.versions = {turn + 1: f"{name} {turn}".encode() for turn in range(2)}
        found.check()
