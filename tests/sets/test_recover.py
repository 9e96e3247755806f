"""What a run that died left: adopted where it is complete, removed where it is ours, else not touched."""

import os
import pathlib

import chains
import pytest
from engine import files_of

from blockdiff.errors import ForeignFiles
from blockdiff.sets import recover

BLOCK = 64


@pytest.fixture
def store(tmp_path):
    """A set of two versions of which NAME.ver names the first."""
    store = chains.new_set(tmp_path)
    for _ in range(2):
        chains.write_version(store, os.urandom(10 * BLOCK), BLOCK)
    store.publish_ver(1)
    return store


def settled(store):
    lines = []
    with store.locked():
        return recover.settle(store, lines.append), lines


def test_a_complete_version_is_adopted_with_a_note(store):
    assert recover.is_whole(store, 2, store.listing())

    newest, lines = settled(store)

    assert (newest, store.newest()) == (2, 2)
    assert lines == [f"version 2 of {store.name} was complete but not yet published: adopted"]


@pytest.mark.parametrize("suffix", [".gz", ".md5", ".xxh128"])
def test_a_torn_version_of_ours_is_removed(suffix, store):
    os.unlink(store.path(2, suffix))
    assert not recover.is_whole(store, 2, store.listing())

    assert settled(store) == (1, [])
    assert set(store.listing().versions) == {1}


def test_files_that_no_manifest_names_are_not_touched(store):
    os.unlink(store.path(2, ".json"))
    before = files_of(pathlib.Path(store.folder))

    with pytest.raises(ForeignFiles, match="no manifest of ours names it"):
        settled(store)

    assert files_of(pathlib.Path(store.folder)) == before


def test_a_set_that_has_not_begun_has_no_newest_version(tmp_path):
    assert settled(chains.new_set(tmp_path)) == (0, [])
