"""Chunks, many at a time, as one at a time."""

import os

import pytest
from seals import BORDERS, CHUNK

from blockdiff.sealing.payload import SEALED_CHUNK, Cipher, NotGenuine

CIPHER = Cipher(bytes(16), bytes(16))


@pytest.mark.parametrize("size", BORDERS)
def test_many_at_a_time_are_as_one_at_a_time(size):
    plain = os.urandom(size)
    parts = [plain[place : place + CHUNK] for place in range(0, size, CHUNK)] or [b""]
    last = len(parts) - 1
    sealed = b"".join(CIPHER.seal(part, 7 + index, index == last) for index, part in enumerate(parts))
    assert CIPHER.seal(plain, 7, True) == sealed
    assert CIPHER.open(sealed, 7, True) == plain
    assert CIPHER.open(sealed[:SEALED_CHUNK], 7, last == 0) == parts[0]
    assert CIPHER.open(sealed[last * SEALED_CHUNK :], 7 + last, True) == parts[last]
    for first, ends in ((8, True), (6, True), (7, False)):
        with pytest.raises(NotGenuine):
            CIPHER.open(sealed, first, ends)


def test_a_file_may_have_more_chunks_than_any_disk():
    assert CIPHER.open(CIPHER.seal(b"x", 1 << 60, True), 1 << 60, True) == b"x"
