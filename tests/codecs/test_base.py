"""Members of zeros are recognised without decompressing, and only what `zeros` makes is one."""

import pytest

from blockdiff import codecs
from blockdiff.codecs import base
from blockdiff.formats import difffile

BLOCK = 65536
LENGTH = 3 * (difffile.OFFSET_SIZE + BLOCK)
OFFSET = {".gz": 15, ".zst": 13}  # of the first record in a member of zeros


@pytest.mark.parametrize("codec", [codecs.GZIP, codecs.ZSTD], ids=["gzip", "zstd"])
def test_only_a_member_that_is_byte_for_byte_zeros_is_one(codec):
    member, place = codec.zeros(7, BLOCK, 3), OFFSET[codec.suffix]

    assert base.parse_zeros(codec, member, place, LENGTH, BLOCK) == (7, 3)
    for i in range(len(member)):
        wrong = member[:i] + bytes([member[i] ^ 1]) + member[i + 1 :]
        assert base.parse_zeros(codec, wrong, place, LENGTH, BLOCK) is None
    for wrong in (LENGTH - 1, LENGTH + 1, 0, 2 * LENGTH, (difffile.OFFSET_SIZE + BLOCK) << 40):
        assert base.parse_zeros(codec, member, place, wrong, BLOCK) is None


@pytest.mark.parametrize("codec", [codecs.GZIP, codecs.ZSTD], ids=["gzip", "zstd"])
def test_zeros_beyond_the_largest_offset_are_none(codec):
    last = difffile.MAX_OFFSET // BLOCK
    for first, found in ((last - 3, (last - 3, 3)), (last - 1, None)):
        member = codec.zeros(first, BLOCK, 3)
        assert base.parse_zeros(codec, member, OFFSET[codec.suffix], LENGTH, BLOCK) == found
