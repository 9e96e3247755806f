"""A file that a command writes for others is replaced whole; what is no file is written to."""

import os
import stat

import pytest

from blockdiff.commands import outfile


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    with open(path) as old:
        outfile.replace(str(path), "new")
        assert (old.read(), path.read_text()) == ("old", "new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644 and os.listdir(tmp_path) == ["a"]


def test_a_link_is_followed(tmp_path):
    (tmp_path / "link").symlink_to("a")
    outfile.replace(str(tmp_path / "link"), "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "a").read_text() == "new"


def test_a_pipe_stays_a_pipe(tmp_path):
    """As /dev/null must stay what it is."""
    os.mkfifo(tmp_path / "pipe")
    fd = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    outfile.replace(str(tmp_path / "pipe"), "new")
    assert os.read(fd, 10) == b"new" and stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)
    os.close(fd)


def test_what_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        outfile.replace(str(tmp_path / "none" / "a"), "new")
    with pytest.raises(UnicodeEncodeError):
        outfile.replace(str(tmp_path / "a"), "\ud800")
    assert os.listdir(tmp_path) == []
