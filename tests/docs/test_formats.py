"""blockdiff-formats(5) and blockdiff-protocol(5) against real files and a real wire."""

import ast
import contextlib
import dataclasses
import hashlib
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import zlib

import pytest
from engine import back_up, local_agent
from mdoc import ROOT, Page, items, plain

from blockdiff import codecs
from blockdiff.codecs import base
from blockdiff.formats import MAX_BLOCK_SIZE, index, manifest, names
from blockdiff.source import push
from blockdiff.wire import frames, link, messages

FORMATS, PROTOCOL = Page("blockdiff-formats.5"), Page("blockdiff-protocol.5")


def words(page, title):
    return plain(page.section(title))


def dump(data):
    """Return what `xxd -g 4` shows."""
    lines = []
    for place in range(0, len(data), 16):
        row = data[place : place + 16]
        groups = " ".join(row[n : n + 4].hex() for n in range(0, len(row), 4))
        text = "".join(chr(c) if 32 <= c < 127 else "." for c in row)
        lines.append(f"{place:08x}: {groups:<35}  {text}")
    return "\n".join(lines)


# the files


def test_the_example_is_what_is_written(run, tmp_path):
    shown = FORMATS.literal_blocks("EXAMPLES")[0]
    make, backup, *rest = re.split(r"^\$ ", shown, flags=re.M)[1:]
    subprocess.run(["sh", "-ec", make], cwd=tmp_path, check=True)
    program, *arguments = backup.split()
    assert run(program, *arguments, cwd=tmp_path).returncode == 0
    assert len(rest) == 3
    for part in rest:
        command, _, text = part.partition("\n")
        assert text.strip() == dump((tmp_path / command.split()[-1]).read_bytes())


def shown(words, first, last):
    """Return the lines of the formatted page from one to another, as a terminal of 80 columns shows them."""
    if shutil.which(words[0]) is None:
        pytest.skip(f"{words[0]} is not installed")
    environment = {**os.environ, "MANWIDTH": "80", "LC_ALL": "C.UTF-8", "MANPAGER": "cat"}
    done = subprocess.run([*words, ROOT / "man/blockdiff-formats.5"], capture_output=True, text=True, env=environment)
    lines = re.sub(".\b", "", done.stdout).splitlines()  # without what a printer would strike twice
    begin = next(n for n, line in enumerate(lines) if first in line)
    end = next(n for n, line in enumerate(lines) if n >= begin and last in line)
    return lines[begin : end + 1]


def paste(shell, lines, folder, bracketed):
    """Type lines into an interactive shell on a terminal, as one that pastes does, and wait for its end."""
    path = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
    environment = {"PATH": path, "TERM": "xterm", "PS1": "READY> ", "HOME": str(folder), "LC_ALL": "C.UTF-8"}
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execvpe(shell[0], shell, environment)
    said = b""
    try:
        while b"READY> " not in said:
            said += os.read(terminal, 4096)
        text = "\r".join(lines)
        text = f"\033[200~{text}\033[201~\r" if bracketed else f"{text}\r"
        os.write(terminal, text.encode() + b"exit $?\r")
        with contextlib.suppress(OSError):  # EIO: the shell has ended
            while data := os.read(terminal, 4096):
                said += data
    finally:
        os.close(terminal)
        _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), said.decode()


@pytest.mark.parametrize("page", [["mandoc", "-T", "utf8"], ["man", "-l"]], ids=["mandoc", "groff"])
@pytest.mark.parametrize(
    "shell, bracketed", [(["sh"], False), (["bash", "--norc"], True), (["bash", "--norc"], False)], ids=str
)
def test_the_restore_without_blockdiff_is_pasted_and_restores(shell, bracketed, page, tmp_path):
    lines = shown(page, "merge() {", "done")
    assert all(line.startswith("  ") for line in lines)  # so they stand on the screen, and so they are taken
    assert sum(line.strip() not in ("", "' \"$@\"; }") for line in lines[:-2]) == 8  # of Python
    volume = tmp_path / "vol"
    for size in (300_000, 300_000, 400_001):
        volume.write_bytes(volume.read_bytes()[:200_000] if volume.exists() else b"")
        volume.write_bytes(volume.read_bytes() + os.urandom(size - volume.stat().st_size))
        back_up(tmp_path / "set", volume)

    code, said = paste(shell, lines, tmp_path, bracketed)

    assert code == 0, said
    assert (tmp_path / "volume").read_bytes() == volume.read_bytes()


def test_the_newest_full_version_is_found_as_told(tmp_path):
    volume = tmp_path / "vol"
    volumes = []
    for full in (False, False, True, False):
        volumes.append(os.urandom(150_000))
        volume.write_bytes(volumes[-1])
        back_up(tmp_path / "set", volume, full=full)
    restore, search = FORMATS.literal_blocks("EXAMPLES")[1:]
    found = subprocess.run(["sh", "-ec", search], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert found.split() == ["set.1.json", "set.3.json"]
    for path in (*tmp_path.glob("set.1.*"), *tmp_path.glob("set.2.*")):
        path.unlink()

    path = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
    lines = restore.replace("in 1 2 3;", "in 3 4;")
    subprocess.run(["sh", "-ec", lines], cwd=tmp_path, env={**os.environ, "PATH": path}, check=True)

    assert (tmp_path / "volume").read_bytes() == volumes[3]


def test_all_names_are_told():
    told = FORMATS.marked("DESCRIPTION", "Pa")
    for suffix in (*names.DIFF_SUFFIXES, *names.BESIDE_SUFFIXES):
        assert names.member_name("NAME", "N", suffix) in told
    assert {names.ver_name("NAME"), names.lock_name("NAME"), names.PART} <= told
    assert f"1 to {MAX_BLOCK_SIZE}" in words(FORMATS, "Block size")
    assert f"{base.MAX_MEMBER >> 20} MiB" in words(FORMATS, "Members")
    assert index.encode_header(1)[:8].decode() in words(FORMATS, "Index")
    assert f"{manifest.MAX_SIZE >> 20} MiB" in words(FORMATS, "Manifest")


@pytest.mark.parametrize("block_size", [1, 4096, 128 * 1024, 300_000])
def test_the_frame_of_zero_blocks_is_as_told(block_size):
    rows = [row.split(" Ta ")[0].split(" ", 1)[1] for row in FORMATS.section("Members") if row.startswith(".It")]
    magic, size, raw, offset, whole, rest, last = rows[:7]
    assert size == "Vt u32" and offset == "Vt u64"
    full, left = divmod(block_size, 128 * 1024)
    block = bytes.fromhex(whole) * full
    if left:
        assert rest == ".. .. .. 00"
        block += (left << 3 | 2).to_bytes(3, "little") + b"\0"
    made = bytes.fromhex(magic) + (2 * (8 + block_size)).to_bytes(4, "little")
    for number in (5, 6):
        made += bytes.fromhex(raw) + (number * block_size).to_bytes(8, "little") + block
    made += bytes.fromhex(last)
    assert codecs.ZSTD.zeros(5, block_size, 2) == made


@pytest.mark.parametrize("block_size", [8192, 64 * 1024, 300_000])
def test_the_member_of_zero_blocks_is_as_told(block_size):
    rows = [row.split(" Ta ")[0].split(" ", 1)[1] for row in FORMATS.section("Members") if row.startswith(".It")]
    header, begin, lengths, offset, block, end, last, crc, size = rows[7:]
    assert (offset, block, crc, size) == ("Vt u64", "...", "Vt u32", "Vt u32")
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    zeros = packer.compress(bytes(block_size)) + packer.flush(zlib.Z_SYNC_FLUSH)
    assert zeros.endswith(bytes.fromhex(end))
    made, payload = bytes.fromhex(header + begin), b""
    for number in (5, 6):
        made += bytes.fromhex(lengths) + (number * block_size).to_bytes(8, "little") + zeros[:-4]
        payload += (number * block_size).to_bytes(8, "little") + bytes(block_size)
    made += bytes.fromhex(end + last)
    made += zlib.crc32(payload).to_bytes(4, "little") + len(payload).to_bytes(4, "little")
    assert codecs.GZIP.zeros(5, block_size, 2) == made


def keys(value, inside=""):
    """Return all keys of a manifest, those of `files` left out."""
    found = set()
    for key, part in value.items():
        found.add(key)
        if isinstance(part, dict) and inside + key != "files":
            found |= keys(part, f"{inside}{key}.")
    return found


def test_every_key_of_a_manifest_is_told(tmp_path):
    told = FORMATS.marked("Manifest") | FORMATS.marked("Quiesce")
    (tmp_path / "vol").write_bytes(os.urandom(1000))
    back_up(tmp_path / "set", tmp_path / "vol")
    value = json.loads((tmp_path / "set.1.json").read_bytes())
    assert not keys(value) - told
    known = {
        node.value
        for path in (ROOT / "blockdiff").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    sheet = (getattr(manifest, name) for name in ("NewManifest", "Source", "Blocks", "Transfer", "Snapshot", "Agent"))
    known |= {field.name for part in sheet for field in dataclasses.fields(part)}
    assert not told - known - keys(value), "no such key"


def test_the_hash_of_a_manifest_is_as_told(tmp_path):
    (tmp_path / "vol").write_bytes(b"x")
    back_up(tmp_path / "set", tmp_path / "vol")
    data = (tmp_path / "set.1.json").read_bytes()
    value = json.loads(data)
    told = value.pop("self_sha256")
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
    assert hashlib.sha256(canonical).hexdigest() == told


# the wire


class Recorder:
    """A transport that remembers what passed."""

    def __init__(self, transport):
        self._transport = transport
        self.sent, self.received = [], []

    def __getattr__(self, name):
        return getattr(self._transport, name)

    def read(self, size):
        data = self._transport.read(size)
        self.received.append(bytes(data))
        return data

    def write(self, data):
        self.sent.append(bytes(data))
        self._transport.write(data)


@pytest.fixture(scope="module")
def wire(tmp_path_factory):
    """A full and an incremental backup over a wire: (bundle, frames that were sent and received)."""
    folder = tmp_path_factory.mktemp("wire")
    volume = folder / "vol"
    volume.write_bytes(os.urandom(200_000) + bytes(200_000))
    recorders = []

    def connect():
        recorders.append(Recorder(local_agent()()))
        return recorders[-1]

    back_up(folder / "set", volume, connect=connect)
    with volume.open("r+b") as file:
        file.write(b"changed")
    back_up(folder / "set", volume, connect=connect)
    talk = []
    for recorder in recorders:
        before, mark, rest = b"".join(recorder.received).partition(messages.SYNC_MARK)
        assert mark and not before
        talk += [*frames_of(b"".join(recorder.sent[1:])), *frames_of(rest)]
    return recorders[0].sent[0], talk


def frames_of(data):
    decoder = frames.Decoder()
    decoder.feed(data)
    found = []
    while (frame := decoder.next()) is not None:
        found.append((frame[0], bytes(frame[1])))
    decoder.close()
    return found


def kinds():
    """Return the kinds of frames that the program knows: {name: number}."""
    tree = ast.parse((ROOT / "blockdiff/wire/messages.py").read_text())
    begin = next(n for n, node in enumerate(tree.body) if "HELLO" in ast.dump(node))
    found = {}
    for node in tree.body[begin:]:
        if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)):
            break
        found[node.targets[0].id] = node.value.value
    return found


def told_kinds():
    """Return {name: (number, words that are marked as keys)} from the page."""
    found = {}
    for head, lines in items(PROTOCOL.section("Messages")):
        name, number, _ = re.fullmatch(r"Cm (\w+) Pq (\d+) , (agent|server|both)", head).groups()
        keys_told = [line for line in lines if line.startswith(".Cm")]
        found[name] = int(number), {word for line in keys_told for word in re.findall(r"[a-z_][a-z0-9_]*", line)}
    return found


def test_the_kinds_of_frames_are_as_told():
    assert {name: number for name, (number, _) in told_kinds().items()} == kinds()


def test_the_bundle_is_as_told(wire):
    bundle, _ = wire
    size = int(re.search(r"stdin\.read\((\d+)\)", push.stub())[1])
    assert bundle[:size] == push.source("agent/assembler.py")
    rest, names = bundle[size:], []
    while not rest.startswith(b"\n"):
        head, _, rest = rest.partition(b"\n")
        name, length, sha256, kind = head.decode().split(" ")
        text, rest = rest[: int(length)], rest[int(length) :]
        assert hashlib.sha256(text).hexdigest() == sha256 and kind in "pm"
        names.append(name)
    assert rest == b"\n"
    assert names[-1] == "agent.main" or "agent.main" in names
    text = words(PROTOCOL, "Bundle")
    assert f"the {len(messages.SYNC_MARK)} bytes" in text
    assert messages.SYNC_MARK.decode().replace("\0", "\\e0").replace("\n", "\\en") in text
    for path in push.PYTHONS:
        assert path in text
    assert " ".join((*push.FLAGS, "-c")) in text


def test_what_is_said_has_the_keys_that_are_told(wire):
    _, talk = wire
    told = dict(told_kinds().values())
    told[messages.END] = PROTOCOL.marked("END")
    seen = {}
    for kind, payload in talk:
        if kind not in messages.METERED and payload.startswith(b"{"):  # digests may begin so, too
            seen.setdefault(kind, set()).update(json.loads(payload))
    assert {messages.HELLO, messages.REQUEST, messages.OPENED, messages.END} <= set(seen)
    for kind, found in seen.items():
        assert not found - told[kind], kind
    known = {
        word
        for path in [*(ROOT / "agent").rglob("*.py"), *(ROOT / "blockdiff").rglob("*.py")]
        for pair in re.findall(r'"(\w+)"|\b(\w+)=', path.read_text())
        for word in pair
    }
    for marked in told.values():
        assert not marked - known


def test_limits_are_as_told():
    for title, numbers in {
        "Frames": [frames.MAX_PAYLOAD],
        "Messages": [messages.MAX_TALK, messages.MAX_DIGESTS],
        "EXTENT": [messages.MAX_COUNT, messages.MAX_RUNS, messages.MAX_LISTED],
        "DATA": [messages.MAX_DATA],
        "Flow control": [link.WINDOW],
    }.items():
        for number in numbers:
            assert str(number) in words(PROTOCOL, title)
    assert f"({messages.PROTOCOL})" in words(PROTOCOL, "Messages")


def test_an_extent_is_as_told(wire):
    """Take the extents apart by the table in the page, and nothing else."""
    sizes = {"u8": 1, "u16": 2, "u32": 4, "u64": 8}
    rows = re.findall(r"^\.It (\d+) bytes? Ta Vt (u\d+)", "\n".join(PROTOCOL.section("EXTENT")), re.M)
    assert all(int(length) == sizes[kind] for length, kind in rows)
    lengths = [int(length) for length, _ in rows]
    assert len(lengths) == 6
    _, talk = wire
    expected = 0
    for kind, payload in talk:
        if kind == messages.OPENED:
            expected = 0
        if kind != messages.EXTENT:
            continue
        place, values = 0, []
        for length in lengths[:4]:
            values.append(int.from_bytes(payload[place : place + length], "little"))
            place += length
        first, count, runs, others = values
        assert first == expected
        expected += count
        changed = covered = 0
        for _ in range(runs):
            what, place = payload[place], place + lengths[4]
            blocks = int.from_bytes(payload[place : place + lengths[5]], "little")
            place += lengths[5]
            covered += blocks
            changed += blocks if what == 2 else 0
        assert covered == count
        assert len(payload) == place + 16 * (changed + (count if others else 0))
    assert expected == -(-400_000 // 65536)
