"""A tar archive of what a guest sends."""

import io
import tarfile

import pytest
from entries import entry

from blockdiff.guest.answers import Data
from blockdiff.guest.archive import Archive


def members(file):
    file.seek(0)
    with tarfile.open(fileobj=file, errors="surrogateescape") as archive:
        return {each.name: archive.extractfile(each).read() if each.isreg() else None for each in archive}


def test_holes_and_what_cannot_be_read_are_zeros():
    file = io.BytesIO()
    archive = Archive(file, 1 << 30)
    archive.put(entry("a", size=700), "a")
    archive.write(Data(3, b"xy"))
    archive.write(Data(600, b"z"))
    archive.put(entry("b", size=2000), "b")
    archive.write(Data(0, b"x"))
    archive.remove()
    archive.put(entry("n" * 300 + "\udcff", size=0), "n" * 300 + "\udcff")
    archive.close()
    assert len(file.getvalue()) % 10240 == 0
    assert members(file) == {
        "a": bytes(3) + b"xy" + bytes(595) + b"z" + bytes(99), "b": b"x" + bytes(1999), "n" * 300 + "\udcff": b"",
    }  # fmt: skip


@pytest.mark.parametrize("sizes", [[2**62], [600, 600], [1001]])
def test_it_gets_no_larger_than_it_may(sizes):
    file = io.BytesIO()
    archive = Archive(file, 1000)
    answers = [archive.put(entry(str(size), size=size), str(number)) for number, size in enumerate(sizes)]
    archive.close()
    assert answers[-1] == "files that would be far larger than the volume" and answers[:-1] == [""] * (len(sizes) - 1)
    assert len(members(file)) == len(sizes) - 1


def test_a_socket_is_left_out():
    file = io.BytesIO()
    archive = Archive(file, 1000)
    assert archive.put(entry("s", "socket"), "s") == "sockets"
    archive.close()
    assert members(file) == {}
