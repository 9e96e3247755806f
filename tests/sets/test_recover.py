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


def without(backup_set, *numbers):
    for number in numbers:
        chains.drop(backup_set, number)


@pytest.fixture
def copied(tmp_path):
    """What a copy of versions 1, 3 and 4 can have: version 3 is a full; NAME.ver names version 1."""
    made = chains.random_set(tmp_path, 2, BLOCK)
    chains.write_version(made, os.urandom(640), BLOCK, full=True)
    without(made, 2)
    made.publish_ver(1)
    return made


def test_a_copy_may_begin_with_another_version(copied):
    without(copied, 1)
    os.unlink(f"{copied.name}.ver")
    newest, lines = settled(copied)
    assert (newest, copied.newest()) == (3, 3) and "version 3 of" in lines[0]


def test_a_copy_may_leave_numbers_out(copied):
    assert settled(copied)[0] == 3 == copied.newest()


@pytest.mark.parametrize("begun", [False, True])
def test_what_a_killed_copy_named_is_removed_only_if_its_manifest_lists_it(begun, copied):
    """Its manifest still has the temporary name; then a file is another one."""
    if not begun:
        without(copied, 1)
        os.unlink(f"{copied.name}.ver")
    os.rename(copied.path(3, ".json"), copied.path(3, ".json") + ".r0123456789abcdef.part")
    os.unlink(copied.path(3, ".gz"))
    good = pathlib.Path(copied.path(3, ".md5")).read_bytes()
    pathlib.Path(copied.path(3, ".md5")).write_bytes(good + bytes(16))
    before = files_of(pathlib.Path(copied.folder))
    with pytest.raises(ForeignFiles):
        settled(copied)
    assert files_of(pathlib.Path(copied.folder)) == before
    pathlib.Path(copied.path(3, ".md5")).write_bytes(good)
    assert settled(copied) == (int(begun), [])
    assert set(copied.listing().versions) == ({1} if begun else set()) and not copied.listing().parts


def test_a_manifest_that_is_alone_above_a_gap_is_not_touched(copied):
    for suffix in (".gz", ".md5", ".idx", ".xxh128"):
        os.unlink(copied.path(3, suffix))
    with pytest.raises(ForeignFiles, match=r"has version 3, but vol\.ver names 1"):
        settled(copied)
    assert os.path.exists(copied.path(3, ".json"))
