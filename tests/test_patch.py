"""The original's merge, from a stream: what it gives, and everything it must refuse."""

import gzip
import hashlib
import io
import json
import os
import pathlib
import struct
import subprocess

import chains
import places
import pytest
from conftest import ROOT

from blockdiff import codecs
from blockdiff.errors import (
    BlockdiffError,
    DamagedFile,
    DigestMismatch,
    NotOurFormat,
    StoreUnreadable,
    TargetRefused,
)
from blockdiff.formats import digestfile
from blockdiff.patch import patch

GOLDEN = places.GOLDEN


def header(block_size):
    return struct.pack("<I", block_size)


def record(offset, block):
    return struct.pack("<Q", offset) + block


HELLO = header(1) + b"".join(record(i, bytes([letter])) for i, letter in enumerate(b"hello"))


def merge(stream, path, **options):
    return patch(io.BytesIO(stream).read, str(path), **options)


def digests(folder, volume, block_size):
    path = folder / "digests"
    data = b"".join(chains.md5(block) for block in chains.blocks_of(volume, block_size))
    path.write_bytes(digestfile.encode_header(block_size) + data)
    return str(path)


def test_hello_becomes_hallo(tmp_path):
    path = tmp_path / "out.txt"
    merge(HELLO, path)
    assert path.read_bytes() == b"hello"

    done = merge(header(1) + record(1, b"a"), path)

    assert path.read_bytes() == b"hallo"
    assert (done.records, done.size, done.proved) == (1, 5, False)


@pytest.mark.parametrize("name", ["hello", "raw", "grow", "odd", "empty"])
@pytest.mark.parametrize("proved", [False, True])
def test_golden_chains_merge_one_after_the_other(name, proved, tmp_path):
    """As `for i in 1..N: gunzip -c NAME.i.gz | blockdiff-merge TARGET` does."""
    expected = json.loads((GOLDEN / "expected.json").read_text())[name]
    path = tmp_path / "out"
    for version in expected["versions"]:
        base = GOLDEN / name / f"{name}.{version['version']}"
        data = pathlib.Path(f"{base}{expected['suffix']}").read_bytes()
        payload = gzip.decompress(data) if expected["suffix"] == ".gz" else data
        done = merge(payload, path, digests_path=f"{base}.md5" if proved else None)
        assert done.proved == proved
        found = path.read_bytes()
        assert len(found) == version["size"]
        assert hashlib.sha256(found).hexdigest() == version["sha256"]


def test_digests_let_a_volume_shrink(tmp_path):
    base = GOLDEN / "shrink" / "shrink"
    path = tmp_path / "out"
    for number in (1, 2):
        payload = gzip.decompress(pathlib.Path(f"{base}.{number}.gz").read_bytes())
        merge(payload, path, digests_path=f"{base}.{number}.md5")

    assert path.stat().st_size == 20480


def test_ours_merge_with_nothing_but_a_decompressor(tmp_path):
    backup_set = chains.new_set(tmp_path)
    volume = bytearray(os.urandom(5000) + bytes(9000) + os.urandom(77))
    path = tmp_path / "out"
    for codec, program in ((codecs.GZIP, "gunzip"), (codecs.ZSTD, "zstd")):
        volume[100:200] = os.urandom(100)
        number = chains.write_version(backup_set, bytes(volume), 512, codec, member=2000)
        try:
            payload = subprocess.run(
                [program, "-dc", backup_set.path(number, codec.suffix)], stdout=subprocess.PIPE
            ).stdout
        except FileNotFoundError:
            payload = b"".join(
                codec.stream(io.BytesIO(pathlib.Path(backup_set.path(number, codec.suffix)).read_bytes()).read)
            )
        merge(payload, path, digests_path=backup_set.path(number, ".md5"))
        assert path.read_bytes() == volume


def test_zeros_are_holes_in_a_new_file_and_written_in_an_old_one(tmp_path):
    volume = os.urandom(65536) + bytes(40 * 65536)
    payload = chains.payload_of(chains.blocks_of(volume, 65536), range(41), 65536)
    new, old = tmp_path / "new", tmp_path / "old"
    old.write_bytes(b"\xaa" * len(volume))

    merge(payload, new)
    merge(payload, old)

    assert new.read_bytes() == old.read_bytes() == volume
    assert new.stat().st_blocks * 512 < len(volume) // 4


VOLUME = bytes(range(60))
OLD = bytes(60)
BLOCK = 16
DIFF = chains.payload_of(chains.blocks_of(VOLUME, BLOCK), range(4), BLOCK)  # the last block has 12 bytes
BORDERS = {4 + i * (8 + BLOCK) for i in range(4)} | {len(DIFF)}


@pytest.mark.parametrize("cut", range(len(DIFF)))
def test_a_stream_cut_anywhere_over_what_was_there(cut, tmp_path):
    path = tmp_path / "out"
    path.write_bytes(OLD)
    if cut in BORDERS:  # only the digests tell
        merge(DIFF[:cut], path)
    else:
        with pytest.raises(DamagedFile):
            merge(DIFF[:cut], path)
    path.write_bytes(OLD)
    with pytest.raises((DamagedFile, DigestMismatch)):
        merge(DIFF[:cut], path, digests_path=digests(tmp_path, VOLUME, BLOCK))


@pytest.mark.parametrize("cut", range(len(DIFF)))
def test_a_stream_cut_anywhere_onto_nothing(cut, tmp_path):
    """A short last block is all that the stream can show here; the digests show everything."""
    path = tmp_path / "out"
    inside_block = any(border + 8 < cut < border + 8 + BLOCK for border in BORDERS)
    if cut in BORDERS or inside_block:
        merge(DIFF[:cut], path)
        path.unlink()
    else:
        with pytest.raises(DamagedFile):
            merge(DIFF[:cut], path)
        assert not path.exists()
    with pytest.raises((DamagedFile, DigestMismatch)):
        merge(DIFF[:cut], path, digests_path=digests(tmp_path, VOLUME, BLOCK))
    assert not path.exists()


def test_the_whole_stream_is_proved(tmp_path):
    done = merge(DIFF, tmp_path / "out", digests_path=digests(tmp_path, VOLUME, BLOCK))

    assert done.proved and done.size == 60 and (tmp_path / "out").read_bytes() == VOLUME


@pytest.mark.parametrize("place", range(len(DIFF)))
def test_any_flipped_byte_is_seen_with_digests(place, tmp_path):
    data = DIFF[:place] + bytes([DIFF[place] ^ 0x10]) + DIFF[place + 1 :]
    with pytest.raises(BlockdiffError):
        merge(data, tmp_path / "out", digests_path=digests(tmp_path, VOLUME, BLOCK))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "stream, error",
    [
        (b"", DamagedFile),
        (b"\1\0\0", DamagedFile),
        (header(0), NotOurFormat),
        (header((16 << 20) + 1), NotOurFormat),
        (header(4) + record(2, b"aaaa"), NotOurFormat),
        (header(4) + record(1 << 63, b"aaaa"), NotOurFormat),
        (header(4) + record((1 << 64) - 4, b"aaaa"), NotOurFormat),
        (header(4) + record(0, b"aaaa") + record(0, b"bbbb"), NotOurFormat),
        (header(4) + record(4, b"aaaa"), NotOurFormat),  # an increment onto nothing
        (header(4) + record(0, b"aaaa") + record(8, b"bbbb"), NotOurFormat),
        (header(4) + record(0, b""), DamagedFile),
    ],
)
def test_streams_that_cannot_be(stream, error, tmp_path):
    with pytest.raises(error):
        merge(stream, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("codec, word", [(codecs.GZIP, "gunzip -c"), (codecs.ZSTD, "zstd -dc")])
def test_a_compressed_stream_is_told_how_to_go_on(codec, word, tmp_path):
    with pytest.raises(NotOurFormat, match=word):
        merge(codec.compress(DIFF), tmp_path / "out")
    with pytest.raises(NotOurFormat, match="lzop -dc"):
        merge(b"\x89LZO\0\r\n\x1a\n" + DIFF, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_block_size_that_gzip_begins_with_is_one_like_any_other(tmp_path):
    size = int.from_bytes(b"\x1f\x8b\x08\0", "little")
    merge(header(size) + record(0, b"x" * size), tmp_path / "out")
    assert (tmp_path / "out").stat().st_size == size


def test_digests_of_another_block_size_or_none_at_all(tmp_path):
    with pytest.raises(NotOurFormat, match="32 bytes"):
        merge(DIFF, tmp_path / "out", digests_path=digests(tmp_path, VOLUME, 32))
    with pytest.raises(StoreUnreadable):
        merge(DIFF, tmp_path / "out", digests_path=str(tmp_path / "none"))
    (tmp_path / "torn").write_bytes(b"\1\0\0\0abc")
    with pytest.raises(DamagedFile):
        merge(HELLO, tmp_path / "out", digests_path=str(tmp_path / "torn"))


@pytest.mark.parametrize("wrong", [0, 5, 99, 100])
def test_a_record_without_its_digest_is_not_written_and_those_before_it_are(wrong, tmp_path):
    volume = os.urandom(100 * 64) + b"tail"
    path = tmp_path / "out"
    path.write_bytes(bytes(len(volume)))
    blocks = chains.blocks_of(volume, 64)
    known = digests(tmp_path, volume, 64)
    blocks[wrong] = b"x" * len(blocks[wrong])

    with pytest.raises(DigestMismatch, match=f"the diff on standard input: .*offset {64 * wrong} "):
        merge(chains.payload_of(blocks, range(101), 64), path, digests_path=known)

    assert path.read_bytes() == volume[: 64 * wrong].ljust(len(volume), b"\0")


def test_a_target_that_was_not_what_the_diff_continues(tmp_path):
    """Every record is right, but what the diff leaves alone is not."""
    path = tmp_path / "out"
    path.write_bytes(b"\xff" * 60)
    diff = chains.payload_of(chains.blocks_of(VOLUME, BLOCK), [1], BLOCK)

    with pytest.raises(DigestMismatch, match="offset 0 "):
        merge(diff, path, digests_path=digests(tmp_path, VOLUME, BLOCK))


def test_a_folder_is_no_target(tmp_path):
    with pytest.raises(TargetRefused):
        merge(HELLO, tmp_path)


def test_a_stream_that_cannot_be_read(run, tmp_path):
    with open("/proc/self/mem", "rb") as memory:  # nothing is mapped at its beginning
        done = run("blockdiff-merge", tmp_path / "out", stdin=memory)
    assert done.returncode == 33
    assert done.stderr == "blockdiff: cannot read the diff on standard input: Input/output error\n"
    words = [ROOT / "bin" / "blockdiff-merge", tmp_path / "out"]
    closed = subprocess.run(["sh", "-c", '"$@" <&-', "sh", *words], capture_output=True, text=True)
    assert closed.returncode == 2 and "stdin is closed" in closed.stderr
    assert not list(tmp_path.iterdir())
