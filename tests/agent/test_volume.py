"""The volume as the agent reads it: holes, errors, short reads, and changes of size under its hands."""

import errno
import os
import socket

import pytest
from engine import back_up, restored
from hypothesis import given, settings
from hypothesis import strategies as st
from tracing import needs_strace, traced

from agent import volume
from agent.errors import AgentError
from blockdiff.errors import ReadFailed

KIB = 1024


@pytest.fixture
def made(tmp_path):
    """A function that opens bytes, or a file made by a function, as a volume."""
    opened = []

    def make(content):
        path = tmp_path / f"volume {len(opened)}"
        if callable(content):
            with open(path, "wb") as file:
                content(file)
        else:
            path.write_bytes(content)
        opened.append(volume.Volume(os.fsencode(path)))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def refused(path):
    with pytest.raises(AgentError) as error:
        volume.Volume(path).close()
    assert error.value.error == "NoSuchVolume"
    return error.value.args


# what is no volume


def test_what_is_missing_or_no_volume_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        for path, reason in {
            str(tmp_path / "missing"): "No such file",
            str(tmp_path): "a folder",
            str(tmp_path / "pipe"): "a pipe",  # and does not wait for somebody to write
            str(tmp_path / "socket"): "a socket",
            "/dev/null": "a character device",
            "": "No such file",
            "a\0b": "null",
            "x" * 5000: "too long",
        }.items():
            name, told = refused(path.encode())
            assert name == path and reason in str(told)


def test_a_name_that_is_not_text_is_told(tmp_path):
    assert refused(os.fsencode(tmp_path) + b"/\xff\xfe")[0].endswith("\\xff\\xfe")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can drop to another user")
def test_what_may_not_be_read_is_named(tmp_path):
    path = tmp_path / "secret"
    path.write_bytes(b"x")
    path.chmod(0)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        try:
            volume.Volume(os.fsencode(path))
        except AgentError as error:
            os._exit(error.error == "NoPermission" and "ermission denied" in str(error.args[1]))
        os._exit(77)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 1


# reading


def read(source, offset, length):
    buffer = bytearray(length)
    source.read_into(memoryview(buffer), offset)
    return bytes(buffer)


def test_any_part_is_read(made):
    data = os.urandom(100_003)
    source = made(data)
    assert (source.size, source.kind) == (len(data), "file")
    for offset, length in ((0, 100_003), (0, 1), (100_002, 1), (33_333, 4096), (5, 0)):
        assert read(source, offset, length) == data[offset : offset + length]


class Script:
    """os.preadv that obeys a script, a letter per call: r = read, s = half of it, e = EIO, i = EINTR as python sees it."""

    def __init__(self, script):
        self._script, self._real, self.calls = iter(script), os.preadv, 0

    def __call__(self, fd, views, offset):
        self.calls += 1
        step = next(self._script, "r")
        if step == "e":
            raise OSError(errno.EIO, "scripted")
        view = views[0]
        if step == "s" and len(view) > 1:
            view = view[: len(view) // 2]
        return self._real(fd, [view], offset)


@pytest.mark.parametrize("script", ["", "s", "ss", "sssssssssssssssss", "srsrs"])
def test_short_reads_are_gone_on_from(script, made, monkeypatch):
    data = os.urandom(10_000)
    source = made(data)
    monkeypatch.setattr(os, "preadv", Script(script))
    assert read(source, 100, 9000) == data[100:9100]


@pytest.mark.parametrize("script, offset", [("e", 100), ("se", 4600), ("sse", 6850)])
def test_a_read_error_is_told_with_its_place(script, offset, made, monkeypatch):
    source = made(bytes(10_000))
    monkeypatch.setattr(os, "preadv", Script(script))
    with pytest.raises(AgentError) as error:
        read(source, 100, 9000)
    assert error.value.error == "ReadFailed"
    assert error.value.args[1] == f"scripted at byte {offset}"


def test_python_3_6_reads_without_preadv(made, monkeypatch):
    data = os.urandom(10_000)
    source = made(data)
    monkeypatch.delattr(os, "preadv")
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, size, offset: real(fd, min(size, 999), offset))
    assert read(source, 7, 9993) == data[7:]


def test_a_volume_that_shrinks_is_an_error(made):
    source = made(bytes(10_000))
    os.truncate(source.path, 5000)
    assert read(source, 0, 5000) == bytes(5000)
    for offset, length in ((0, 5001), (4000, 6000), (9999, 1)):
        with pytest.raises(AgentError, match="shrank"):
            read(source, offset, length)
    with pytest.raises(AgentError, match="from 10000 to 5000"):
        source.check_size()


def test_a_volume_that_grows_is_read_as_it_was(made):
    source = made(b"x" * 5000)
    os.truncate(source.path, 10_000)
    source.check_size()
    assert source.size == 5000
    assert list(source.regions())[-1][1] == 5000


# holes


def layout(file, pieces):
    """Write pieces of (bytes, is_hole) one after the other."""
    place = 0
    for length, is_hole in pieces:
        if not is_hole:
            file.seek(place)
            file.write(b"d" * length)
        place += length
    file.truncate(place)


def check_regions(source, data_at):
    """Regions cover the volume without a gap, and whatever is data lies in none that is a hole."""
    regions = list(source.regions())
    place = 0
    for start, end, is_hole in regions:
        assert start == place < end
        place = end
        if is_hole:
            assert not any(start < stop and begin < end for begin, stop in data_at)
    assert place == source.size
    return regions


@given(st.lists(st.tuples(st.integers(1, 300 * KIB), st.booleans()), max_size=12))
@settings(max_examples=40, deadline=None)
def test_no_data_lies_in_a_hole(pieces):
    import tempfile

    with tempfile.NamedTemporaryFile() as file:
        layout(file, pieces)
        file.flush()
        data_at, place = [], 0
        for length, is_hole in pieces:
            data_at += [] if is_hole else [(place, place + length)]
            place += length
        source = volume.Volume(os.fsencode(file.name))
        try:
            check_regions(source, data_at)
        finally:
            source.close()


def test_holes_are_found(made):
    size = 1 << 20
    source = made(lambda file: layout(file, [(size, True), (size, False), (size, True)]))
    if not any(is_hole for _, _, is_hole in source.regions()):
        pytest.skip("this file system has no holes")
    regions = check_regions(source, [(size, 2 * size)])
    assert [is_hole for _, _, is_hole in regions] == [True, False, True]


def test_an_empty_volume_has_no_regions(made):
    assert list(made(b"").regions()) == []


def test_where_holes_cannot_be_told_all_is_data(made, monkeypatch):
    source = made(lambda file: layout(file, [(1 << 20, True), (5, False)]))
    real = os.lseek

    def lseek(fd, place, whence):
        if whence in (os.SEEK_DATA, os.SEEK_HOLE):
            raise OSError(errno.EINVAL, "scripted")
        return real(fd, place, whence)

    monkeypatch.setattr(os, "lseek", lseek)
    assert list(source.regions()) == [(0, (1 << 20) + 5, False)]


# a real agent on a kernel that fails


@pytest.mark.parametrize("block", [1, 2, 5])
def test_a_read_error_of_the_device_ends_the_run(block, tmp_path):
    """The kernel itself answers EIO to one read of a real agent: its name, its place, and nothing published."""
    needs_strace()
    path = tmp_path / "vol"
    path.write_bytes(os.urandom(6 << 20))
    failing = traced("-o", "/dev/null", "-P", path, "-e", "trace=preadv,preadv2", "-e", f"inject=preadv,preadv2:error=EIO:when={block}")
    with pytest.raises(ReadFailed, match=r"Input/output error at byte \d+") as error:
        back_up(tmp_path / "set", path, connect=failing, threads=1)
    assert error.value.exit_code == 33
    assert sorted(p.name for p in tmp_path.iterdir()) == ["set.lock", "vol"]
    back_up(tmp_path / "set", path)
    assert restored(tmp_path / "set", 1, tmp_path / "out") == path.read_bytes()


def test_interrupted_reads_are_tried_again(tmp_path):
    needs_strace()
    path = tmp_path / "vol"
    path.write_bytes(os.urandom(3 << 20))
    failing = traced("-o", "/dev/null", "-P", path, "-e", "trace=preadv,preadv2", "-e", "inject=preadv,preadv2:error=EINTR:when=1+2")
    back_up(tmp_path / "set", path, connect=failing)
    assert restored(tmp_path / "set", 1, tmp_path / "out") == path.read_bytes()
