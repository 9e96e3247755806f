"""The version that a new one continues: proved, or the next one is a full."""

import hashlib
import os
import pathlib

import chains
import pytest

from blockdiff.errors import BlockSizeDiffers, DamagedFile, MissingFile
from blockdiff.sets import parent

BLOCK = 64


@pytest.fixture
def backup_set(tmp_path):
    return chains.random_set(tmp_path, 2, BLOCK)


def test_the_newest_version_is_continued(backup_set):
    found = parent.find(backup_set, 2, pytest.fail, pytest.fail)

    assert (found.number, found.parent_number, found.block_size) == (3, 2, BLOCK)
    assert [version.number for version in found.links] == [1, 2]
    assert found.link == hashlib.sha256(pathlib.Path(backup_set.path(2, ".md5")).read_bytes()).hexdigest()
    found.check(backup_set)
    found.close()


def test_a_full_and_a_first_version_continue_nothing(backup_set, tmp_path):
    for found in (
        parent.find(backup_set, 2, pytest.fail, pytest.fail, full=True),
        parent.find(chains.new_set(tmp_path, "new"), 0, pytest.fail, pytest.fail),
    ):
        assert (found.parent_number, found.link, found.md5) == (None, None, None)


def test_a_parent_that_cannot_be_proved_makes_a_full_or_stops(backup_set):
    os.unlink(backup_set.path(1, ".gz"))
    lines = []

    found = parent.find(backup_set, 2, lines.append, pytest.fail)

    assert (found.number, found.parent_number) == (3, None)
    assert len(lines) == 1 and lines[0].startswith("version 2 cannot be continued, making a full version: ")
    with pytest.raises(DamagedFile):
        parent.find(backup_set, 2, pytest.fail, pytest.fail, auto_full=False)


def test_another_block_size_is_refused(backup_set):
    with pytest.raises(BlockSizeDiffers):
        parent.find(backup_set, 2, pytest.fail, pytest.fail, block_size=2 * BLOCK)


@pytest.mark.parametrize("suffix", [".md5", ".gz"])
def test_what_goes_missing_while_a_run_lasts_is_found_at_its_end(suffix, backup_set):
    found = parent.find(backup_set, 2, pytest.fail, pytest.fail)
    os.unlink(backup_set.path(2, suffix))

    with pytest.raises(MissingFile):
        found.check(backup_set)
    found.close()
