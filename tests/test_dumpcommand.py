"""Programs that are not ours, by the original's contract: what they write is proved, and then published.

The program below does what the original did, in few words, and fails in every way that a test asks for.
Where BLOCKDIFF_ORIGINAL names a copy of the original's blockdiff_dump, that is used as well.
"""

import json
import os
import shutil
import signal
import sys
import time

import numbers_line
import pytest
from launched import Launched, Set, needs
from programs import until

SIZE = 512
LOCKED, NO_PROGRAM, FAILED, USAGE = 12, 16, 27, 2
NOT_OURS, TORN, MISMATCH = 50, 51, 53
DONE = "backup completed successfully"

PROGRAM = """#!{python}
import gzip, hashlib, os, subprocess, sys

fault = os.environ.get("FAULT", "")
size = int(os.environ.get("SIZE", 512))
words = sys.argv[1:]
data = open(words[-1], "rb").read()
try:
    old = os.fdopen(5, "rb").read()
except OSError:
    old = None
if old is not None:
    size = int.from_bytes(old[:4], "little")
    old = old[4:]
if fault == "block size":
    size *= 2
payload, digests = size.to_bytes(4, "little"), size.to_bytes(4, "little")
for index in range(-(-len(data) // size)):
    block = data[index * size : (index + 1) * size]
    digest = hashlib.md5(block).digest()
    digests += digest
    if old is not None and old[index * 16 : index * 16 + 16] == digest and (fault != "extra" or index != 1):
        continue
    if fault == "missing" and index == 2:
        continue
    if fault == "wrong block" and index == 2:
        block = bytes([block[0] ^ 1]) + block[1:]
    payload += (index * size + (fault == "offset" and index == 2)).to_bytes(8, "little") + block
if fault == "torn":
    payload = payload[:-10]
if fault == "tail":
    payload += b"more"
if fault == "wrong digest":
    digests = digests[:36] + bytes([digests[36] ^ 1]) + digests[37:]
if fault == "torn digests":
    digests = digests[:-3]
if fault == "short digests":
    digests = digests[:-16]
if fault == "more digests":
    digests += bytes(16)
if fault == "no digests":
    digests = b""
if fault == "zero size":
    digests = bytes(4) + digests[4:]
if fault == "headers":
    payload = (size + 1).to_bytes(4, "little") + payload[4:]
if fault == "nothing":
    payload = b""
if "-z" in words or "--gzip" in words:
    payload = gzip.compress(payload)
    if fault == "torn gzip":
        payload = payload[:-6]
    if fault == "no gzip":
        payload = gzip.decompress(payload)
if "--lzop" in words:
    payload = subprocess.run(["lzop", "-c"], input=payload, stdout=subprocess.PIPE, check=True).stdout
os.write(6, digests)
sys.stdout.buffer.write(payload)
sys.stdout.flush()
if fault == "exit":
    sys.exit(9)
if fault == "signal":
    os.kill(os.getpid(), 9)
"""


@pytest.fixture
def begun(tmp_path):
    """A set that has not begun, a source, and a program that dumps it."""
    found = Set(tmp_path / "backups")
    found.source = tmp_path / "volume"
    found.source.write_bytes(os.urandom(9 * SIZE) + bytes(SIZE) + b"tail")
    found.program = tmp_path / "their dump"
    found.program.write_text(PROGRAM.format(python=sys.executable))
    found.program.chmod(0o755)
    return found


def back_up(begun, *words, env=None, options=(), program="blockdiff-backup"):
    words = words or (begun.program, begun.source)
    with Launched(program, *options, begun.name, *words, env=env) as run:
        code, out, err = run.finish()
        assert run.gone()
    if code == 0:
        begun.versions[begun.newest()] = begun.source.read_bytes()
    return code, out, err


def change(begun, grown=b""):
    data = bytearray(begun.source.read_bytes())
    data[2 * SIZE : 2 * SIZE + 8] = os.urandom(8)
    begun.source.write_bytes(data + grown)


def manifest(begun, number):
    return json.loads((begun.folder / f"db.{number}.json").read_text())


@pytest.mark.parametrize("option, suffix", [(None, ""), ("-z", ".gz"), ("--gzip", ".gz"), ("--lzop", ".lzop")])
def test_good_dumps_are_published(begun, option, suffix):
    if option == "--lzop":
        needs("lzop")
    words = [begun.program, *([option] if option else []), begun.source]
    assert back_up(begun, *words)[0] == 0
    change(begun, b"grown")
    assert back_up(begun, *words)[0] == 0
    begun.source.write_bytes(begun.source.read_bytes()[: 4 * SIZE])
    assert back_up(begun, *words)[0] == 0
    assert back_up(begun, *words)[0] == 0  # nothing changed
    begun.check()

    assert [manifest(begun, n)["kind"] for n in (1, 2, 3, 4)] == ["full", *["incremental"] * 3]
    assert manifest(begun, 2)["blocks"] == {"changed": 2, "total": 11, "zero": 0}
    assert manifest(begun, 1)["blocks"]["zero"] == 1
    for number in (1, 2, 3, 4):
        assert (begun.folder / f"db.{number}{suffix}").exists()
        assert set(manifest(begun, number)["files"]) == {suffix, ".md5"}


def test_what_it_says(begun):
    code, out, err = back_up(begun)
    assert (code, out) == (0, "")
    assert err[:2] == [f"running: '{begun.program}' {begun.source}", DONE]
    assert numbers_line.LINE.fullmatch(err.pop()) and len(err) == 2
    change(begun)
    code, out, err = back_up(begun, options=["--json", "--quiet"])
    assert (code, err) == (0, [])
    told = json.loads(out)
    assert {name: told[name] for name in ("version", "kind", "changed", "blocks", "wire", "read")} == {
        "version": 2, "kind": "incremental", "changed": 1, "blocks": 11, "wire": None, "read": None,
    }  # fmt: skip


def test_ours_and_theirs_take_turns(begun):
    for turn in range(6):
        change(begun)
        words = [begun.source] if turn % 2 else []
        assert back_up(begun, *words)[0] == 0
    begun.check()
    assert [manifest(begun, n)["kind"] for n in range(1, 7)] == ["full"] + ["incremental"] * 5


def test_full_on_demand(begun):
    assert back_up(begun)[0] == 0
    assert back_up(begun, options=["--full"])[0] == 0
    assert manifest(begun, 2)["kind"] == "full"
    assert manifest(begun, 2)["blocks"]["changed"] == 11
    begun.check()


@pytest.mark.parametrize("size", [0, 1, SIZE, SIZE + 1])
def test_small_volumes(begun, size):
    begun.source.write_bytes(b"x" * size)
    assert back_up(begun)[0] == 0
    begun.source.write_bytes(b"xx" * size)
    assert back_up(begun)[0] == 0
    begun.check()


FAULTS = {
    "exit": (FAILED, "exited with code 9"),
    "signal": (FAILED, "died with signal 9"),
    "torn": (TORN, ""),
    "tail": (TORN, ""),
    "nothing": (TORN, ""),
    "offset": (TORN, ""),
    "missing": (TORN, "must be next"),
    "extra": (TORN, "block 1"),
    "wrong block": (TORN, "block 2"),
    "wrong digest": (MISMATCH, "block 2"),
    "torn digests": (TORN, "descriptor 6"),
    "no digests": (TORN, "descriptor 6"),
    "zero size": (NOT_OURS, "descriptor 6"),
    "short digests": (TORN, ""),
    "more digests": (TORN, ""),
    "headers": (TORN, ""),
}


@pytest.mark.parametrize("fault", [*FAULTS, "block size"])
def test_a_bad_increment_is_not_published(begun, fault):
    assert back_up(begun)[0] == 0
    change(begun, b"and more")  # so that the last block is among the changed ones
    old = begun.files()

    code, out, err = back_up(begun, env={"FAULT": fault})

    wanted, word = FAULTS.get(fault, (NOT_OURS, "descriptor 6"))
    assert out == ""
    assert len(err) == 2, err
    assert err[1].startswith("blockdiff: ")
    assert word in err[1]
    assert code in (wanted, NOT_OURS, MISMATCH) if wanted == TORN else code == wanted, err
    assert begun.files() == old
    assert back_up(begun)[0] == 0
    begun.check()


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault not in ("extra", "exit", "signal")])
def test_a_bad_full_is_not_published(begun, fault):
    code, out, err = back_up(begun, env={"FAULT": fault})
    assert code in (TORN, NOT_OURS, MISMATCH)
    assert out == ""
    assert len(err) == 2
    assert begun.files() == {}


@pytest.mark.parametrize("fault", ["torn gzip", "no gzip"])
def test_bad_compression_is_not_published(begun, fault):
    code, _, err = back_up(begun, begun.program, "-z", begun.source, env={"FAULT": fault})
    assert code in (TORN, NOT_OURS)
    assert len(err) == 2
    assert begun.files() == {}


def test_a_program_that_says_another_suffix_than_it_writes(begun):
    """-z among its words decides, whoever's option it is."""
    env = {"FAULT": "no gzip"}
    assert back_up(begun, begun.program, "-z", begun.source, env=env)[0] in (TORN, NOT_OURS)
    assert begun.files() == {}


def test_a_program_that_there_is_not(begun):
    code, out, err = back_up(begun, "no-such-program", begun.source)
    assert (code, out) == (NO_PROGRAM, "")
    assert "no-such-program" in err[-1]
    assert begun.files() == {}


def test_a_program_that_cannot_run(begun):
    begun.program.write_text("#!/no/interpreter\n")
    code, _, err = back_up(begun)
    assert code in (NO_PROGRAM, FAILED)
    assert len(err) == 2
    assert begun.files() == {}


def test_a_secret_among_its_words_is_kept_nowhere(begun):
    assert back_up(begun, begun.program, "--password=hunter2", begun.source)[0] == 0
    assert not [name for name, data in begun.files().items() if b"hunter2" in data]
    assert manifest(begun, 1)["command"] == "their dump"


@pytest.mark.parametrize("option", ["--zstd", "--block-size=1K", "--rescan", "--compress=none"])
def test_options_that_only_we_can_honour(begun, option):
    code, out, err = back_up(begun, options=[option])
    assert (code, out) == (USAGE, "")
    assert "cannot be given" in err[-1]
    assert begun.files() == {}


def test_the_contract_of_descriptors(begun, tmp_path):
    """5 is closed for a full, and no other descriptor of ours is handed on; a broken pipe kills, as ever."""
    program = tmp_path / "look"
    program.write_text(
        '#!/bin/sh\nls /proc/self/fd >"$LOOK"; grep SigIgn /proc/self/status >>"$LOOK"\n'
        f'exec "{begun.program}" "$@"\n'
    )
    program.chmod(0o755)
    for number in (1, 2):
        change(begun)
        env = {"LOOK": str(tmp_path / "seen")}
        assert back_up(begun, program, begun.source, env=env)[0] == 0
        *seen, ignored = (tmp_path / "seen").read_text().splitlines()
        numbers = {int(word) for word in seen}
        assert {0, 1, 2, 6} <= numbers
        assert (5 in numbers) == (number == 2)
        assert max(numbers) < 10
        assert not int(ignored.split()[1], 16) & 1 << signal.SIGPIPE - 1
    begun.check()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda n: n.name)
def test_ending_us_ends_its_whole_group(begun, tmp_path, number):
    program = tmp_path / "slow"
    program.write_text("#!/bin/sh\necho partial\nsleep 60 | sleep 60\n")
    program.chmod(0o755)
    assert back_up(begun)[0] == 0
    old = begun.files()
    handler = signal.signal(number, signal.default_int_handler)  # whoever started us may have had it ignored
    try:
        with Launched("blockdiff-backup", begun.name, program, begun.source) as run:
            until(lambda: run.has("sleep"))
            time.sleep(0.05)
            os.kill(run.pid, number)
            code, _, err = run.finish(30)
            assert code == 128 + number
            assert err[-1] == f"blockdiff: interrupted by {number.name}"
            assert run.gone()
    finally:
        signal.signal(number, handler)
    assert begun.files() == old


def test_two_at_once(begun, tmp_path):
    program = tmp_path / "slow"
    program.write_text("#!/bin/sh\nsleep 60\n")
    program.chmod(0o755)
    with Launched("blockdiff-backup", begun.name, program, begun.source) as run:
        until(lambda: run.has("sleep"))
        assert back_up(begun)[0] == LOCKED
        os.kill(run.pid, signal.SIGTERM)
        assert run.finish()[0] == 143
    assert back_up(begun)[0] == 0


def test_a_program_that_ends_before_what_it_started(begun, tmp_path):
    """As `dump > >(compressor)` does in bash: only when nobody can write any more, what came is looked at."""
    program = tmp_path / "early"
    program.write_text(f'#!/bin/sh\n{{ sleep 0.5; "{begun.program}" "$@"; }} &\n')
    program.chmod(0o755)
    assert back_up(begun, program, begun.source)[0] == 0
    begun.check()
    program.write_text(f'#!/bin/sh\n{{ sleep 0.5; echo late; }} &\nexec "{begun.program}" "$@"\n')
    assert back_up(begun, program, begun.source)[0] in (TORN, NOT_OURS)
    begun.check()


def test_the_original(begun):
    """The real one, where there is a copy: both go on with what the other wrote."""
    original = os.environ.get("BLOCKDIFF_ORIGINAL")
    if not original:
        pytest.skip("BLOCKDIFF_ORIGINAL does not name a copy of the original's blockdiff_dump")
    assert shutil.which(original)
    for words in ([original, begun.source], [begun.source], [original, "-z", begun.source], [original, begun.source]):
        change(begun)
        assert back_up(begun, *words, env={"BLOCKSIZE": "512"})[0] == 0
    begun.check()
    assert manifest(begun, 4)["kind"] == "incremental"
