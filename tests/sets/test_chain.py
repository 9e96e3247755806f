"""Chains: what a version needs, and that links which do not join are refused.  Chains are spelled as strings."""

import os

import chains
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockdiff.errors import ChainBroken, NoSuchVersion
from blockdiff.sets import chain, versions


def spelled(word):
    """parent_of for a chain: F a full version, i one on the number before, a digit one on that number, . none."""

    def parent_of(number):
        letter = word[number - 1] if 1 <= number <= len(word) else "."
        if letter == ".":
            raise chain.MissingLink(number)
        return None if letter == "F" else number - 1 if letter == "i" else int(letter)

    return parent_of


@pytest.mark.parametrize(
    "word, number, needed",
    [
        ("F", 1, [1]),
        ("Fii", 3, [1, 2, 3]),
        ("Fii", 2, [1, 2]),
        ("FiiFi", 5, [4, 5]),
        ("FiiFi", 4, [4]),
        ("FiiFi", 3, [1, 2, 3]),
        ("..Fi", 4, [3, 4]),
        (".iF", 3, [3]),
        ("F..1i", 5, [1, 4, 5]),
        ("Fi1i", 4, [1, 3, 4]),  # two on version 1
        ("Fi1i", 2, [1, 2]),
        ("FiiF2", 5, [1, 2, 5]),  # past a full
    ],
)
def test_a_version_needs_all_back_to_the_full_that_it_is_based_on(word, number, needed):
    assert chain.needed(spelled(word), number) == needed


@pytest.mark.parametrize(
    "word, number, missing",
    [
        ("", 1, 1),
        ("Fi", 3, 3),
        ("F.i", 3, 2),
        ("F..i", 4, 3),
        ("iii", 3, 0),  # nothing is full
        (".ii", 3, 1),
        ("F", 0, 0),
        ("F..2", 4, 2),
    ],
)
def test_a_hole_is_named(word, number, missing):
    with pytest.raises(chain.MissingLink) as error:
        chain.needed(spelled(word), number)
    assert error.value.number == missing


@given(st.lists(st.integers(-1, 30), max_size=30), st.integers(1, 30))
def test_what_is_needed_is_a_full_and_all_that_lead_from_it(parents, number):
    """-1: no such version; a number that is not smaller: a full."""
    known = {n: parent if 0 < parent < n else None for n, parent in enumerate(parents, 1) if parent >= 0}

    def parent_of(candidate):
        if candidate not in known:
            raise chain.MissingLink(candidate)
        return known[candidate]

    try:
        needed = chain.needed(parent_of, number)
    except chain.MissingLink as error:
        assert error.number not in known
        return
    assert needed == sorted(needed) and needed[-1] == number
    assert [known[n] for n in needed] == [None, *needed[:-1]]


@pytest.fixture
def backup_set(tmp_path):
    backup_set = chains.new_set(tmp_path)
    for _ in range(3):
        chains.write_version(backup_set, os.urandom(1000), 100)
    return backup_set


def numbers_of(backup_set, number, **options):
    return [version.number for version in chain.chain_of(backup_set, number, backup_set.listing(), **options)]


def test_the_chain_of_a_version_is_what_a_restore_reads(backup_set):
    assert (numbers_of(backup_set, 3), numbers_of(backup_set, 1)) == ([1, 2, 3], [1])
    with pytest.raises(NoSuchVersion):
        numbers_of(backup_set, 4)


def test_a_link_that_does_not_join_is_refused(backup_set):
    other = chains.new_set(backup_set.folder, "other")
    chains.write_version(other, os.urandom(1000), 100)
    for suffix in (".md5", ".gz", ".idx", ".xxh128"):
        os.replace(other.path(1, suffix), backup_set.path(1, suffix))
    os.unlink(backup_set.path(1, ".json"))
    listing = backup_set.listing()

    with pytest.raises(ChainBroken, match="it does not continue the version 1 that is here"):
        numbers_of(backup_set, 2)
    with pytest.raises(ChainBroken):
        chain.check_link(backup_set, versions.version(backup_set, 2, listing))
    chain.check_link(backup_set, versions.version(backup_set, 3, listing))
    assert numbers_of(backup_set, 3, deep=False) == [1, 2, 3]


def test_a_block_size_that_changes_breaks_a_chain(tmp_path):
    backup_set = chains.new_set(tmp_path)
    chains.write_version(backup_set, os.urandom(1000), 100, original=True)
    chains.write_version(backup_set, os.urandom(1000), 50, original=True)

    with pytest.raises(ChainBroken, match="from 100 to 50 bytes at version 2"):
        numbers_of(backup_set, 2)
