"""Any range of a sealed file is right; whatever was changed of the file is refused."""

import hashlib
import os
import random
import threading

import pytest
from memory import peak_below
from seals import BORDERS, CHUNK, TAG, Forger, Key, Memory, opened, plain, sealed_size

from blockdiff.errors import DamagedFile, NotOurFormat, Sealed
from blockdiff.place import base, folder
from blockdiff.sealing import sealer
from blockdiff.sealing.opened import OpenedFile

KEY = Key()
REFUSED = (DamagedFile, NotOurFormat, Sealed)
HEADER = sealed_size(0, 1) - TAG  # bytes before the first chunk
SEALED = CHUNK + TAG
PLAIN = os.urandom(max(BORDERS))
FILES = {size: sealer.seal([KEY.recipient], PLAIN[:size]) for size in BORDERS}
LONG = [pytest.param(size, True, marks=pytest.mark.long, id=f"{size}-every") for size in (65536, 131_073)]
EVERY = pytest.mark.parametrize("size, every", [*(pytest.param(size, False, id=str(size)) for size in BORDERS), *LONG])


def places(size, every):
    """Every place in a file, or all of its header and those around the borders of its chunks, and some between."""
    if every:
        return range(size)
    near = {border + step for border in range(HEADER, size + SEALED, SEALED) for step in range(-20, 21)}
    near |= {size + step for step in range(-40, 0)}
    return sorted(place for place in near | set(range(HEADER)) | set(range(0, size, 997)) if 0 <= place < size)


@EVERY
def test_no_byte_can_be_changed(size, every):
    data = bytearray(FILES[size])
    bits = range(8) if size < 2 else [3]
    for place in places(len(data), every):
        for bit in bits:
            data[place] ^= 1 << bit
            with pytest.raises(REFUSED):
                plain(bytes(data), KEY.identity)
            data[place] ^= 1 << bit
    assert plain(bytes(data), KEY.identity) == PLAIN[:size]


@EVERY
def test_a_cut_file_is_refused_when_it_is_opened(size, every):
    data = FILES[size]
    for length in places(len(data), every):
        with pytest.raises(REFUSED):
            opened(data[:length], KEY.identity)


@pytest.mark.parametrize("size", BORDERS)
def test_nothing_can_be_appended(size):
    for tail in (b"\x00", b"\n", bytes(15), bytes(16), bytes(17), FILES[1][-17:], FILES[0][-16:], FILES[size][HEADER:], FILES[size]):
        with pytest.raises(DamagedFile):
            opened(FILES[size] + tail, KEY.identity)


def test_chunks_cannot_change_places():
    data = FILES[200_000]
    head, chunks = data[:HEADER], [data[place : place + SEALED] for place in range(HEADER, len(data), SEALED)]
    other = FILES[131_073]
    assert len(chunks) == 4
    for wrong in (
        [1, 0, 2, 3], [0, 2, 1, 3], [0, 1, 3, 2], [3, 0, 1, 2],  # swapped
        [0, 0, 1, 2, 3], [0, 1, 1, 2, 3], [0, 1, 2, 2, 3], [0, 1, 2, 3, 3],  # doubled
        [1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2], [3], [0], [0, 0, 2, 3],  # left out
    ):  # fmt: skip
        with pytest.raises(DamagedFile):
            plain(head + b"".join(chunks[index] for index in wrong), KEY.identity)
    for place in (HEADER - 16, HEADER, HEADER + SEALED):  # the rest of another file for the same key
        with pytest.raises(DamagedFile):
            plain(data[:place] + other[place:], KEY.identity)
    replaced = data[: HEADER + SEALED] + FILES[131_073][HEADER + SEALED : HEADER + 2 * SEALED] + data[HEADER + 2 * SEALED :]
    with pytest.raises(DamagedFile, match=r"^db\.1\.gz\.age is damaged: chunk 1 of it is not what was sealed$"):
        plain(replaced, KEY.identity)


def test_only_the_last_chunk_is_marked_as_the_last():
    forger = Forger(KEY)
    whole, part = bytes(CHUNK), bytes(100)
    assert plain(forger.file((whole, False), (part, True)), KEY.identity) == whole + part
    assert plain(forger.file((b"", True)), KEY.identity) == b""
    assert plain(forger.file((whole, True)), KEY.identity) == whole
    for chunks in (
        [(whole, False)], [(part, False)], [(b"", False)],  # the last is missing
        [(whole, True), (part, True)], [(whole, True), (part, False)], [(whole, False), (whole, False), (part, False)],
        [(whole, False), (b"", True)], [(b"", False), (b"", True)],  # an empty one after others
        [(part, False), (part, True)], [(part, True), (part, True)],  # a short one before others
        [(bytes(CHUNK + 1), True)], [(bytes(CHUNK + 16), True)],  # a long one
    ):  # fmt: skip
        with pytest.raises(DamagedFile):
            plain(forger.file(*chunks), KEY.identity)


def test_any_range_is_right_and_is_one_request():
    draw = random.Random(1)
    for size in BORDERS:
        stored = Memory(FILES[size])
        file = OpenedFile(stored, [KEY.identity], "x")
        assert file.size == size
        assert len(stored.asked) == (1 if len(FILES[size]) <= 2 * CHUNK else 2)
        edges = [0, 1, size - 1, size, size + 1, *(border + step for border in (CHUNK, 2 * CHUNK) for step in (-1, 0, 1))]
        ranges = [(length, offset) for offset in edges for length in edges if offset >= 0 and length >= 0]
        ranges += [(draw.randint(0, size + 9), draw.randint(0, size + 9)) for _ in range(300)]
        ranges += [(draw.randint(0, 300), draw.randint(0, size)) for _ in range(300)]
        for length, offset in ranges:
            stored.asked.clear()
            assert file.pread(length, offset) == PLAIN[:size][offset : offset + length]
            assert len(stored.asked) <= 1
            for asked, _ in stored.asked:
                assert asked <= (length // CHUNK + 2) * SEALED
        assert b"".join(file.pieces()) == PLAIN[:size]


def test_only_the_damaged_chunk_is_lost():
    data = bytearray(FILES[200_000])
    data[HEADER + SEALED + 5] ^= 1
    file = opened(bytes(data), KEY.identity)
    assert file.pread(CHUNK, 0) == PLAIN[:CHUNK]
    assert file.pread(72_000, 2 * CHUNK) == PLAIN[2 * CHUNK : 200_000]
    for length, offset in ((1, CHUNK), (2, CHUNK - 1), (200_000, 0), (2, 2 * CHUNK - 1)):
        with pytest.raises(DamagedFile, match="chunk 1 of it is not what was sealed"):
            file.pread(length, offset)


def test_a_store_that_gives_less_than_was_asked_for():
    data = FILES[200_000]

    class Short(Memory):
        less = 0

        def pread(self, length, offset):
            return super().pread(length, offset)[: length - self.less]

    stored = Short(data)
    file = OpenedFile(stored, [KEY.identity], "x")
    stored.less = 1
    with pytest.raises(DamagedFile, match="x is damaged: it is cut"):
        file.pread(100, 150_000)
    with pytest.raises(DamagedFile):
        OpenedFile(Short(data[: HEADER - 1]), [KEY.identity], "x")


def test_who_closes_the_stored_file():
    stored = Memory(FILES[1])
    file = OpenedFile(stored, [KEY.identity], "x")
    assert not stored.closed
    file.close()
    assert stored.closed
    for data, identity in ((FILES[1], Key().identity), (FILES[1][:-1], KEY.identity), (b"", KEY.identity)):
        stored = Memory(data)
        with pytest.raises(REFUSED):
            OpenedFile(stored, [identity], "x")
        assert stored.closed


def test_a_file_of_a_place_can_be_opened(tmp_path):
    path = tmp_path / "db.1.gz.age"
    path.write_bytes(FILES[200_000])
    blob = folder.open_file(str(path))
    file = OpenedFile(blob, [KEY.identity], "x")
    again = file.over(blob.again())
    file.close()
    assert base.hash_of(again).sha256 == hashlib.sha256(PLAIN).hexdigest()
    again.close()


def test_another_handle_needs_no_request_to_be_opened():
    first, second = Memory(FILES[200_000]), Memory(FILES[200_000])
    file = OpenedFile(first, [KEY.identity], "x")
    other = file.over(second)
    file.close()
    assert second.asked == [] and not second.closed
    assert (other.size, other.pread(10, 190_000)) == (200_000, PLAIN[190_000:190_010])
    assert len(second.asked) == 1


def test_threads_read_one_file_at_the_same_time():
    plaintext = os.urandom(4 << 20)
    file = opened(sealer.seal([KEY.recipient], plaintext), KEY.identity)
    wrong = []

    def read(seed):
        draw = random.Random(seed)
        for _ in range(100):
            length, offset = draw.randint(1, 500_000), draw.randint(0, len(plaintext))
            if file.pread(length, offset) != plaintext[offset : offset + length]:
                wrong.append((length, offset))

    threads = [threading.Thread(target=read, args=[seed]) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_reading_in_order_takes_little_memory():
    plaintext = os.urandom(24 << 20)
    data = sealer.seal([KEY.recipient], plaintext)
    with peak_below(20 << 20):
        length = sum(len(piece) for piece in opened(data, KEY.identity).pieces())
    assert length == len(plaintext)
