"""Files that are kept open: what was removed or replaced is read all the same."""

import os
import resource

import chains
import pytest

from blockdiff.blocks import openfiles
from blockdiff.blocks.openfiles import OpenFiles


@pytest.fixture
def files(tmp_path):
    return chains.files_of(chains.random_set(tmp_path, 1, 64))


def test_a_file_that_was_removed_or_replaced_is_still_there(files):
    old = _read(files.diff)
    with OpenFiles([files]) as opened:
        assert not opened.missing
        os.unlink(files.index)
        with open(files.diff + ".new", "wb") as file:
            file.write(b"other")
        os.replace(files.diff + ".new", files.diff)
        assert _read(opened.place(files.diff)) == old and _read(opened.place(files.index))
        assert opened.place("elsewhere") == "elsewhere"
    assert opened.place(files.diff) == files.diff


def _read(path):
    with open(path, "rb") as file:
        return file.read()


def test_what_is_missing_is_noted_and_opened_when_it_is_read(files):
    os.unlink(files.diff)
    with OpenFiles([files]) as opened:
        assert opened.missing and opened.place(files.diff) == files.diff


def test_no_more_are_open_than_may_be(files, monkeypatch):
    monkeypatch.setattr(openfiles, "_SPARE", resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 2)
    with OpenFiles([files]) as opened:
        held = [path for path in (files.index, files.diff, files.digests) if opened.place(path) != path]
    assert len(held) == 2 and not opened.missing
