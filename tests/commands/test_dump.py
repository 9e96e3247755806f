"""blockdiff-dump by descriptors, as the original's pipes have it, and by plain options, as people do."""

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys

import places
import pytest
from chains import blocks_of, payload_of
from conftest import OURS
from launched import Launched, bin_path, environment, needs

GOLDEN = places.GOLDEN
USAGE, DIFFERS, NOT_OURS, TORN = 2, 34, 50, 51
SIZE = 16 * 1024  # bytes of a block, as in the original


@pytest.fixture
def volume(tmp_path):
    path = tmp_path / "volume"
    path.write_bytes(os.urandom(3 * SIZE) + bytes(2 * SIZE) + os.urandom(100))
    return path


def shell(line, *words, input=None, **env):
    """Run a line of sh, in which $0 is blockdiff-dump."""
    assert "BLOCKSIZE" in OURS  # or one of the caller's would count here
    given = {"input": input} if input is not None else {"stdin": subprocess.DEVNULL}
    words = ["sh", "-c", line, bin_path("blockdiff-dump"), *map(os.fspath, words)]
    done = subprocess.run(words, env=environment(**env), capture_output=True, timeout=60, **given)
    return done.returncode, done.stdout, done.stderr.decode()


def digests_of(data, size):
    return size.to_bytes(4, "little") + b"".join(hashlib.md5(block).digest() for block in blocks_of(data, size))


def dump(volume, *options, old=None, line='"$0" "$@" 6>"$NEW"', **env):
    """Dump by descriptors; returns (payload, digests)."""
    new = volume.with_name("new")
    if old is not None:
        line += ' 5<"$OLD"'
    code, out, err = shell(line, *options, volume, NEW=str(new), OLD=str(old), **env)
    assert (code, err) == (0, "")
    return out, new.read_bytes()


def test_a_full_dump(volume):
    data = volume.read_bytes()
    payload, digests = dump(volume)
    assert payload == payload_of(blocks_of(data, SIZE), range(6), SIZE)
    assert digests == digests_of(data, SIZE)


@pytest.mark.parametrize("size", [1, 512, 4097, 1024 * 1024])
def test_block_sizes(volume, size):
    data = volume.read_bytes()[-3000:] if size == 1 else volume.read_bytes()
    volume.write_bytes(data)
    blocks = blocks_of(data, size)
    for found in (dump(volume, "--blocksize", str(size)), dump(volume, BLOCKSIZE=str(size))):
        assert found == (payload_of(blocks, range(len(blocks)), size), digests_of(data, size))


def test_an_incremental_dump(volume, tmp_path):
    """The old digests' block size beats BLOCKSIZE; an option that differs is an error."""
    old = tmp_path / "old"
    old.write_bytes(digests_of(volume.read_bytes(), 4096))
    data = bytearray(volume.read_bytes())
    data[5000] ^= 1
    data += b"more"
    volume.write_bytes(data)
    last = len(data) // 4096

    payload, digests = dump(volume, old=old, BLOCKSIZE="512")

    assert payload == payload_of(blocks_of(bytes(data), 4096), [1, last], 4096)
    assert digests == digests_of(data, 4096)
    assert dump(volume, "--blocksize", "4096", old=old)[0] == payload
    code, out, err = shell('"$0" --blocksize 512 "$1" 5<"$2" 6>/dev/null', volume, old)
    assert (code, out) == (DIFFERS, b"")
    assert "4096" in err


def test_pipes_on_all_descriptors(volume, tmp_path):
    old = digests_of(volume.read_bytes(), SIZE)
    volume.write_bytes(b"x" + volume.read_bytes()[1:])
    new = tmp_path / "new"
    line = '{ { cat "$3" | { cat <&4 | "$0" 5<&3; } 3<&0; } 6>&1 >"$2" | cat >"$1"; } 4<"$4"'
    (tmp_path / "old").write_bytes(old)

    code, _, err = shell(line, new, tmp_path / "out", tmp_path / "old", volume)

    assert (code, err) == (0, "")
    data = volume.read_bytes()
    assert (tmp_path / "out").read_bytes() == payload_of(blocks_of(data, SIZE), [0], SIZE)
    assert new.read_bytes() == digests_of(data, SIZE)


@pytest.mark.parametrize("way", ["pipe", "file", "empty"])
def test_a_volume_on_stdin(volume, tmp_path, way):
    if way == "empty":
        volume.write_bytes(b"")
    data = volume.read_bytes()
    line = {"pipe": 'cat "$2" | "$0" 6>"$1"'}.get(way, '"$0" <"$2" 6>"$1"')
    code, out, err = shell(line, tmp_path / "new", volume)
    assert (code, err) == (0, "")
    assert out == payload_of(blocks_of(data, SIZE), range(-(-len(data) // SIZE)), SIZE)
    assert (tmp_path / "new").read_bytes() == digests_of(data, SIZE)


def test_plain_options(volume, tmp_path):
    full, digests = dump(volume)
    words = ["--output", tmp_path / "1", "--digests-out", tmp_path / "1.md5", volume]
    assert shell('"$0" "$@"', *words) == (0, b"", "")
    assert ((tmp_path / "1").read_bytes(), (tmp_path / "1.md5").read_bytes()) == (full, digests)

    volume.write_bytes(volume.read_bytes()[: 2 * SIZE] + b"!")
    incremental, digests = dump(volume, old=tmp_path / "1.md5")
    old = ["--digests-in", tmp_path / "1.md5"]
    words = [*old, "--output", tmp_path / "2", "--digests-out", tmp_path / "2.md5", volume]
    assert shell('"$0" "$@"', *words) == (0, b"", "")
    assert ((tmp_path / "2").read_bytes(), (tmp_path / "2.md5").read_bytes()) == (incremental, digests)
    # the digests may replace those that were read
    words = [*old, "--output", tmp_path / "3", "--digests-out", tmp_path / "1.md5", volume]
    assert shell('"$0" "$@"', *words) == (0, b"", "")
    assert ((tmp_path / "3").read_bytes(), (tmp_path / "1.md5").read_bytes()) == (incremental, digests)


@pytest.mark.parametrize("line", ['"$0" "$1"', '"$0" "$1" 5</dev/null', '"$0" --output "$1.out" "$1"'])
def test_without_descriptor_6(volume, line):
    """Nothing is written to what happens to have the number 6 later."""
    code, out, err = shell(line, volume)
    assert (code, out) == (USAGE, b"")
    assert "descriptor 6" in err
    assert sorted(path.name for path in volume.parent.iterdir()) == ["volume"]


def test_descriptors_that_are_open_and_not_ours(volume, tmp_path):
    """Others than 5 and 6 change nothing; 5 is not what we opened ourselves."""
    line = 'exec 3<"$1" 4<"$1" 7<"$1"; "$0" "$1" 6>"$2"'
    code, out, err = shell(line, volume, tmp_path / "new")
    assert (code, err) == (0, "")
    assert hashlib.sha256(out).digest() == hashlib.sha256(dump(volume)[0]).digest()


@pytest.mark.parametrize(
    "old, code, word",
    [
        (b"", TORN, "damaged"),
        (b"\0\0\1", TORN, "damaged"),
        ((512).to_bytes(4, "little") + bytes(16 * 3 + 5), TORN, "damaged"),
        (bytes(4), NOT_OURS, "block size"),
        (b"\xff\xff\xff\xff" + bytes(16), NOT_OURS, "block size"),
    ],
    ids=["empty", "short header", "torn", "zero", "huge"],
)
def test_old_digests_that_cannot_be(volume, tmp_path, old, code, word):
    (tmp_path / "old").write_bytes(old)
    for line in ('"$0" "$1" 5<"$2" 6>"$3"', '"$0" --digests-in "$2" "$1" 6>"$3"', 'cat "$2" | "$0" "$1" 5<&0 6>"$3"'):
        found, out, err = shell(line, volume, tmp_path / "old", tmp_path / "new")
        assert (found, out) == (code, b"")
        assert len(err.splitlines()) == 1
        assert word in err
        assert "descriptor 5" in err or str(tmp_path / "old") in err


@pytest.mark.parametrize("what", ["missing", "folder"])
def test_a_failing_dump_leaves_no_file(tmp_path, what):
    path = tmp_path / "it"
    if what == "folder":
        path.mkdir()
    before = sorted(tmp_path.iterdir())
    words = ["--output", tmp_path / "out", "--digests-out", tmp_path / "md5", path]
    code, out, err = shell('"$0" "$@"', *words)
    assert (code, out) == (30, b"")
    assert len(err.splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == before


def test_a_failing_dump_leaves_the_files_that_were_there(volume, tmp_path):
    (tmp_path / "out").write_bytes(b"old")
    volume.unlink()
    words = ["--output", tmp_path / "out", "--digests-out", tmp_path / "md5", volume]
    assert shell('"$0" "$@"', *words)[0] == 30
    assert (tmp_path / "out").read_bytes() == b"old"


def test_a_full_disk_behind_a_descriptor(volume):
    code, _, err = shell('"$0" "$1" 6>/dev/null >/dev/full', volume)
    assert code in (13, 15)
    assert "standard output" in err
    code, _, err = shell('"$0" "$1" 6>/dev/full', volume)
    assert code in (13, 15)
    assert "descriptor 6" in err


def test_a_reader_that_goes_away(volume):
    """A broken pipe is a failure, not a short dump that ends well."""
    volume.write_bytes(os.urandom(4 * 1024 * 1024))
    line = '{ "$0" "$1" 6>/dev/null; echo $? >"$2"; } | head -c 10 >/dev/null'
    shell(line, volume, volume.with_name("code"))
    assert int(volume.with_name("code").read_text()) != 0


# compressed


def test_gzip(volume):
    payload, digests = dump(volume)
    for option in ("-z", "--gzip"):
        packed, found = dump(volume, option)
        assert (gzip.decompress(packed), found) == (payload, digests)
        assert subprocess.run(["gunzip", "-c"], input=packed, stdout=subprocess.PIPE, check=True).stdout == payload


@pytest.mark.parametrize("option, program", [("--lzop", "lzop"), ("--zstd", "zstd")])
def test_other_compressors(volume, option, program):
    needs(program)
    payload, digests = dump(volume)
    packed, found = dump(volume, option)
    assert found == digests
    assert subprocess.run([program, "-dc"], input=packed, stdout=subprocess.PIPE, check=True).stdout == payload


def test_lzop_where_there_is_none(volume, tmp_path):
    for name in ("sh", "readlink"):
        (tmp_path / name).symlink_to(shutil.which(name))
    (tmp_path / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')  # a link would hide its modules
    (tmp_path / "python3").chmod(0o755)
    code, out, err = shell('PATH="$2"; "$0" --lzop "$1" 6>/dev/null', volume, tmp_path)
    assert (code, out) == (16, b"")
    assert "lzop" in err


# the original's files


def sets():
    expected = json.loads((GOLDEN / "expected.json").read_text())
    for name, facts in expected.items():
        for version in facts["versions"]:
            yield pytest.param(name, facts, version["version"], id=f"{name}.{version['version']}")


def payload_of_golden(name, facts, number):
    path = GOLDEN / name / f"{name}.{number}{facts['suffix']}"
    if facts["suffix"] == ".gz":
        return gzip.decompress(path.read_bytes())
    if facts["suffix"] == ".lzop":
        needs("lzop")
        return subprocess.run(["lzop", "-dc", path], stdout=subprocess.PIPE, check=True).stdout
    return path.read_bytes()


def golden_volume(name, facts, number, target):
    """Make the volume of a golden version by the original's own rule, and cut it to its size."""
    target.write_bytes(b"")
    with open(target, "r+b") as file:
        for before in range(1, number + 1):
            payload = payload_of_golden(name, facts, before)
            size, place = facts["block_size"], 4
            assert payload[:4] == size.to_bytes(4, "little")
            while place < len(payload):
                file.seek(int.from_bytes(payload[place : place + 8], "little"))
                file.write(payload[place + 8 : place + 8 + size])
                place += 8 + size
            file.truncate(facts["versions"][before - 1]["size"])
    assert hashlib.sha256(target.read_bytes()).hexdigest() == facts["versions"][number - 1]["sha256"]


@pytest.mark.parametrize("name, facts, number", list(sets()))
def test_a_dump_is_the_originals(name, facts, number, tmp_path):
    """Of the same volume and the same old digests: the same bytes, compressed ones after decompression."""
    volume = tmp_path / "volume"
    golden_volume(name, facts, number, volume)
    folder = GOLDEN / name
    old = folder / f"{name}.{number - 1}.md5" if number > 1 else None
    option = {".gz": ["-z"], ".lzop": ["--lzop"]}.get(facts["suffix"], [])

    payload, digests = dump(volume, *option, old=old, BLOCKSIZE=str(facts["block_size"]))

    if facts["suffix"] == ".gz":
        payload = gzip.decompress(payload)
    elif facts["suffix"] == ".lzop":
        payload = subprocess.run(["lzop", "-dc"], input=payload, stdout=subprocess.PIPE, check=True).stdout
    assert payload == payload_of_golden(name, facts, number)
    assert digests == (folder / f"{name}.{number}.md5").read_bytes()


@pytest.mark.parametrize("name", ["grow", "odd"])
def test_the_originals_restore(name, tmp_path):
    """gunzip and blockdiff_merge, one version after the other, on sets that cannot shrink."""
    facts = json.loads((GOLDEN / "expected.json").read_text())[name]
    target = tmp_path / "target"
    target.touch()
    for version in facts["versions"]:
        diff = GOLDEN / name / f"{name}.{version['version']}.gz"
        line = 'gunzip -c "$1" | "$2" "$3"'
        code, _, err = shell(line, diff, bin_path("blockdiff_merge"), target)
        assert code == 0, err
        assert hashlib.sha256(target.read_bytes()).hexdigest() == version["sha256"]


def test_a_dump_merges(volume, tmp_path):
    target = tmp_path / "target"
    shell('"$0" "$1" 6>"$2"', volume, tmp_path / "md5")
    line = '"$0" --zstd "$1" 6>"$2" | zstd -dc | "$3" --digests "$2" "$4"'
    needs("zstd")
    target.touch()
    code, _, err = shell(line, volume, tmp_path / "md5", bin_path("blockdiff-merge"), target)
    assert code == 0, err
    assert target.read_bytes() == volume.read_bytes()


def test_the_underscore_name_is_the_same_program(volume, tmp_path):
    line = f'"{bin_path("blockdiff_dump")}" "$1" 6>"$2"'
    code, out, _ = shell(line, volume, tmp_path / "md5")
    assert (code, out) == (0, dump(volume)[0])


@pytest.mark.parametrize("line", ["--no-such", "a b", "--blocksize 0 a", "--blocksize 17M a", "--blocksize x a"])
def test_wrong_usage(line):
    with Launched("blockdiff-dump", *line.split()) as run:
        code, out, _ = run.finish()
    assert (code, out) == (USAGE, "")


def test_a_blocksize_in_the_environment_that_is_none(volume):
    for value in ("x", "-1", "17M"):
        code, _, err = shell('"$0" "$1" 6>/dev/null', volume, BLOCKSIZE=value)
        assert code == USAGE
        assert "BLOCKSIZE" in err
