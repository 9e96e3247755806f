"""What a version costs at least: never more than a real one, and not much less than one of zeros."""

import os
import shutil

import pytest
from engine import back_up

from blockdiff import codecs
from blockdiff.members import least_stored

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
