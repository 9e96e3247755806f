"""Members: none that a reader does not take, in bounded memory; and what a version costs at least."""

import hashlib
import os
import shutil

import chains
import pytest
import xxhash
from engine import back_up, restored
from hostile import LEFT, Played, extent, hello, opened, put_together, talk
from memory import peak_below

from blockdiff import codecs, verify
from blockdiff.codecs import base
from blockdiff.formats import MAX_BLOCK_SIZE, digestfile
from blockdiff.ingest.members import least_stored, most_records
from blockdiff.sets.backupset import BackupSet
from blockdiff.wire import messages
from blockdiff.wire.messages import SAME, ZERO

KIB, MIB = 1 << 10, 1 << 20
SUFFIXES = ["", ".gz", ".zst"] + ([".lzop"] if shutil.which("lzop") else [])


def on_disk(folder, number):
    """Bytes of a version's files, but for the manifest."""
    names = [name for name in os.listdir(folder) if f".{number}" in name and not name.endswith(".json")]
    return sum(os.path.getsize(folder / name) for name in names)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("block_size, size", [(1, 3000), (512, 2 * MIB + 7), (65536, 200 * MIB), (MIB, 200 * MIB + 5)])
def test_no_version_of_zeros_is_smaller_than_the_least_and_it_is_near(block_size, size, suffix, tmp_path):
    codec, source = codecs.BY_SUFFIX[suffix], tmp_path / "vol"
    if suffix in ("", ".lzop"):
        size = min(size, 20 * MIB)
    source.touch()
    os.truncate(source, size)
    (tmp_path / "to").mkdir()
    back_up(tmp_path / "to" / "set", source, suffix=suffix, block_size=block_size)

    least, found = least_stored(size, block_size, codec), on_disk(tmp_path / "to", 1)
    assert found // 2 - 500 < least <= found

    os.truncate(source, 2 * size)
    back_up(tmp_path / "to" / "set", source, suffix=suffix)

    least, found = least_stored(2 * size, block_size, codec, known=size // block_size), on_disk(tmp_path / "to", 2)
    assert found // 2 - 500 < least <= found


def test_no_member_can_be_too_large_whatever_the_size_of_a_block():
    for block_size in [*range(1, 5000), 65536, MIB - 1, MIB, MAX_BLOCK_SIZE - 1, MAX_BLOCK_SIZE]:
        assert most_records(block_size) * (8 + block_size) <= base.MAX_MEMBER // 2  # far from it


def test_blocks_that_the_parent_has_cost_their_digests_only():
    size, block_size = 1 << 50, 16 * MIB
    digests = 4 + 16 * (size // block_size)
    for codec in codecs.BY_SUFFIX.values():
        assert least_stored(size, block_size, codec, known=size // block_size) == 2 * digests
        assert least_stored(size, block_size, codec, known=size // block_size, keep_xxh=False) == digests
        assert least_stored(size, block_size, codec) > 2 * digests
        assert least_stored(0, block_size, codec) == 8
    assert least_stored(size, block_size, codecs.PLAIN) == 2 * digests + 4 + size + 8 * (size // block_size)


def test_the_least_is_known_at_once_for_any_size():
    """Nothing is made of all those blocks: the answer comes before the room is looked at."""
    for size in ((1 << 63) - 1, 1 << 50):
        for codec in codecs.BY_SUFFIX.values():
            assert least_stored(size, 65536, codec) > size // 65536 * 32


# what an agent's few bytes make of the server


def zeros_told(block_size, runs):
    """What an agent says of a volume of zero blocks only: extents of these runs each."""
    total = sum(count for some in runs for _, count in some)
    changed = sum(count for some in runs for what, count in some if what == ZERO)
    digests = digestfile.encode_header(block_size) + xxhash.xxh3_128_digest(bytes(block_size)) * total
    spoken, first = [hello(), opened(total * block_size)], 0
    for some in runs:
        spoken.append(extent(first, some))
        first += sum(count for _, count in some)
    end = {"total": total, "changed": changed, "zero": changed, "read": 0, "snapshot": None}
    end["digests"] = {"xxh128": hashlib.sha256(digests).hexdigest()}
    return put_together([*spoken, talk(messages.END, **end), LEFT])


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("zeros, block_size", [(1, 900 * KIB), (3, 300 * KIB)])
def test_single_blocks_that_turn_to_zeros_take_no_memory(zeros, block_size, suffix, tmp_path):
    """Of a few KiB that an agent says, 900 MiB of records are made, and written as they are made."""

    def say(said):
        return back_up(
            tmp_path / "set", "/vol", connect=lambda: Played(said), suffix=suffix, block_size=block_size, timeout_s=60.0
        )

    groups = 1000 if suffix in (".gz", ".zst") else 60
    say(zeros_told(block_size, [[(ZERO, groups * (zeros + 1))]]))
    said = zeros_told(block_size, [[(ZERO, zeros), (SAME, 1)] * groups])
    assert len(said) < 20 * KIB
    with peak_below(20 * MIB):
        outcome = say(said)

    assert outcome.payload > groups * 900 * KIB
    backup_set = BackupSet(str(tmp_path / "set"))
    if suffix in (".gz", ".zst"):
        spans = chains.spans_of(backup_set, 2, block_size)
        assert max(span.length for span in spans) <= base.MEMBER_SIZE + MIB
        assert len(spans) < outcome.payload // (2 * MIB)  # nor are they small
    (last,) = verify.verify(backup_set, 2).versions[1:]
    assert last.restores and not last.faults


def test_zero_blocks_beside_changed_ones_are_in_one_member_as_long_as_they_are_few(tmp_path):
    """Three zero blocks, then a changed one, again and again: no member for each, and none too large."""
    block_size, source, suffix = 4096, tmp_path / "vol", ".gz"
    volume = bytearray(os.urandom(16 * MIB))
    source.write_bytes(volume)
    back_up(tmp_path / "set", source, suffix=suffix, block_size=block_size)
    for place in range(0, len(volume), 4 * block_size):
        volume[place : place + 4 * block_size] = bytes(3 * block_size) + b"x" * block_size
    source.write_bytes(volume)
    back_up(tmp_path / "set", source, suffix=suffix)

    backup_set = BackupSet(str(tmp_path / "set"))
    spans = chains.spans_of(backup_set, 2, block_size)
    assert max(span.length for span in spans) <= base.MEMBER_SIZE + MIB
    assert len(spans) < 9
    assert restored(tmp_path / "set", 2, tmp_path / "out") == volume
