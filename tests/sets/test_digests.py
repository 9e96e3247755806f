"""The digests of a version: opened with what the file tells, read by block, sealed against changes."""

import hashlib
import os

import pytest

from blockdiff.errors import DamagedFile, MissingFile, NotOurFormat, StoreUnreadable
from blockdiff.formats import digestfile
from blockdiff.sets.digests import Digests, open_digests

ROWS = [bytes([number]) * 16 for number in range(5)]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "db.1.md5"
    path.write_bytes(digestfile.encode_header(512) + b"".join(ROWS))
    return path


def test_the_file_tells_block_size_and_count(path):
    block_size, digests = open_digests(str(path))
    with digests:
        assert (block_size, digests.count) == (512, 5)
        assert digests.take(1, 3) == b"".join(ROWS[1:4])
        window = digests.window()
        assert [window.of(index) for index in (4, 0, 2)] == [ROWS[4], ROWS[0], ROWS[2]]
        assert [digests.read(48), digests.read(48), digests.read(48)] == [b"".join(ROWS[:3]), b"".join(ROWS[3:]), b""]


@pytest.mark.parametrize(
    "data, error",
    [
        (b"\0\2\0", DamagedFile),  # no whole header
        (b"\0\2\0\0" + bytes(15), DamagedFile),
        (bytes(20), NotOurFormat),  # blocks of no bytes
    ],
)
def test_what_is_no_digest_file_is_refused_by_the_name_that_it_is_given(data, error, path):
    path.write_bytes(data)
    before = os.listdir("/proc/self/fd")

    with pytest.raises(error, match="the old digests"):
        open_digests(str(path), "the old digests")
    with pytest.raises(error, match=str(path)):
        open_digests(str(path))

    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_a_file_that_is_missing_or_cannot_be_read(path, tmp_path):
    with pytest.raises(MissingFile):
        open_digests(f"{path}x")
    with pytest.raises(StoreUnreadable):
        open_digests(str(tmp_path))


def test_a_file_that_became_shorter_is_damaged(path):
    with Digests(str(path), 6) as digests, pytest.raises(DamagedFile, match="before the digest of block 5"):
        digests.take(4, 2)


@pytest.mark.parametrize("replaced", [True, False])
def test_a_seal_is_broken_by_a_new_file_and_by_a_write(replaced, path, tmp_path):
    with Digests(str(path), 5) as digests:
        assert not digests.intact()
        assert digests.seal() == hashlib.sha256(path.read_bytes()).hexdigest()
        assert digests.intact()
        if replaced:
            (tmp_path / "new").write_bytes(path.read_bytes())
            os.replace(tmp_path / "new", path)
        else:
            path.write_bytes(path.read_bytes() + ROWS[0])
        assert not digests.intact()
