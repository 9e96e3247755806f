import pytest
from chains import files_of, new_set, rewrite, write_version

from blockdiff.blocks import owners
from blockdiff.blocks.owners import ZEROS, Owners
from blockdiff.codecs import GZIP

BLOCK = 8


def volume(text):
    """A volume whose blocks are these letters; a dot is a block of zeros."""
    return b"".join(bytes(BLOCK) if letter == "." else letter.encode() * BLOCK for letter in text)


@pytest.fixture
def links(tmp_path):
    """A chain that grows, shrinks and has blocks that come back."""
    backup_set = new_set(tmp_path)
    for text in ("abc.efgh", "abX..", "abc..fghij", "abc..fghi."):
        write_version(backup_set, volume(text), BLOCK, GZIP)
    return backup_set, [files_of(backup_set, number) for number in (1, 2, 3, 4)]


def found(links, first=0, stop=10):
    work = Owners(links)
    try:
        return [
            owner
            for window in work.windows(first, stop)
            for begin, after, owner in window.runs(first, stop)
            for _ in range(begin, after)
        ]
    finally:
        work.close()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 4096])
def test_the_newest_version_that_differs_from_its_parent_has_the_record(size, links, monkeypatch):
    monkeypatch.setattr(owners, "_BLOCKS", size)
    _, files = links
    z = ZEROS
    assert found(files) == [0, 0, 2, z, z, 2, 2, 2, 2, z]
    assert found(files, 2, 6) == [2, z, z, 2]
    assert found(files[:2], 0, 5) == [0, 0, 1, z, z]
    assert found(files[:1], 0, 8) == [0, 0, 0, z, 0, 0, 0, 0]


def test_the_parent_of_a_version_that_was_rewritten_is_the_one_of_its_chain(links):
    backup_set, _ = links
    rewrite(backup_set, 3, 1, {2, 3})
    files = [files_of(backup_set, number) for number in (1, 3, 4)]
    # block 2 is as it was in version 1: the rewritten one has a record, which is not needed
    assert found(files) == [0, 0, 0, ZEROS, ZEROS, 0, 0, 0, 1, ZEROS]


def test_zeros_are_told_by_the_digests_of_the_wanted_version(links, monkeypatch):
    monkeypatch.setattr(owners, "_BLOCKS", 3)
    work = Owners(links[1])
    rows = list(work.zeros(1, 10))
    work.close()
    zeros = [block for first, stop, zero in rows if zero for block in range(first, stop)]
    assert zeros == [3, 4, 9]
    assert [row[0] for row in rows] == [1, *(row[1] for row in rows[:-1])]
    assert rows[-1][1] == 10


def test_windows_are_kept_and_their_number_is_bounded(links, monkeypatch):
    monkeypatch.setattr(owners, "_BLOCKS", 1)
    monkeypatch.setattr(owners, "_WINDOWS", 2)
    work = Owners(links[1])
    one, two = work.windows(0, 2)
    assert list(work.windows(0, 2)) == [one, two]
    list(work.windows(2, 3))
    again = list(work.windows(1, 2))
    assert again == [two]  # which was used after the first one
    assert list(work.windows(0, 1)) != [one]
    work.close()
