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
def backup_set(tmp_path):
    """A set of two versions of which NAME.ver names the first."""
    backup_set = chains.random_set(tmp_path, 2, BLOCK)
    backup_set.publish_ver(1)
    return backup_set


def settled(backup_set):
    lines = []
    with backup_set.locked():
        return recover.settle(backup_set, lines.append), lines


def test_a_complete_version_is_adopted_with_a_note(backup_set):
    assert recover.is_whole(backup_set, 2, backup_set.listing())

    newest, lines = settled(backup_set)

    assert (newest, backup_set.newest()) == (2, 2)
    assert lines == [f"version 2 of {backup_set.name} was complete but not yet published: adopted"]


@pytest.mark.parametrize("suffix", [".gz", ".md5", ".xxh128"])
def test_a_torn_version_of_ours_is_removed(suffix, backup_set):
    os.unlink(backup_set.path(2, suffix))
    assert not recover.is_whole(backup_set, 2, backup_set.listing())

    assert settled(backup_set) == (1, [])
    assert set(backup_set.listing().versions) == {1}


def test_files_that_no_manifest_names_are_not_touched(backup_set):
    os.unlink(backup_set.path(2, ".json"))
    before = files_of(pathlib.Path(backup_set.folder))

    with pytest.raises(ForeignFiles, match="no manifest of ours names it"):
        settled(backup_set)

    assert files_of(pathlib.Path(backup_set.folder)) == before


def test_a_set_that_has_not_begun_has_no_newest_version(tmp_path):
    assert settled(chains.new_set(tmp_path)) == (0, [])
