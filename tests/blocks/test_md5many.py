"""MD5s of many blocks against hashlib, one at a time: by every variant that this machine has, and by the fallback."""

import array
import hashlib
import os
import pathlib
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lab.conftest import unavailable
from places import ROOT

from blockdiff.blocks import md5many

try:
    from blockdiff.blocks import _md5lanes
except ImportError:
    _md5lanes = None

NAMES = ["hashlib", "default", "avx512", "avx2", "plain"]
NOISE = os.urandom(1 << 20)


@pytest.fixture(params=NAMES)
def md5_many(request):
    """The function by each of those that can compute."""
    return function_of(request.param, request.config.getoption("--md5"))


def function_of(name, asked=None):
    if name == "hashlib":
        return md5many.with_hashlib
    if _md5lanes is None:
        if asked == "hashlib":
            pytest.skip("--md5 hashlib")
        unavailable("the extension was not built: there is no C compiler")
    if name == "default":
        return _md5lanes.md5_many
    if name not in _md5lanes.VARIANTS:
        pytest.skip(f"this processor has no {name}")
    return lambda *arguments: _md5lanes.md5_many(*arguments, name)


def one_by_one(buffer, stride, length, count):
    blocks = (bytes(buffer[i * stride : i * stride + length]) for i in range(count))
    return b"".join(hashlib.md5(block).digest() for block in blocks)


LENGTHS = st.one_of(st.integers(0, 300), st.sampled_from([4096, 4101, 8191]))


@pytest.mark.parametrize("name", NAMES)
@given(LENGTHS, st.integers(1, 400), st.integers(0, 100), st.integers(0, 130), st.integers(0, 9000))
@settings(max_examples=150, deadline=None)
def test_they_are_those_of_hashlib(name, length, stride, count, offset, place):
    """At any length, stride, count and alignment; the buffer ends where the last block does, or later."""
    compute = function_of(name, "hashlib")
    needed = (count - 1) * stride + length if count else 0
    # memory of its own, which ends here: bytes have a zero behind them, and a new array some room
    buffer = array.array("B", NOISE[place : place + offset + needed])[:]
    view = memoryview(buffer)[offset:]
    assert compute(view, stride, length, count) == one_by_one(view, stride, length, count)
    longer = memoryview(NOISE)[place + offset :]
    assert compute(longer, stride, length, count) == one_by_one(longer, stride, length, count)


@pytest.mark.parametrize("length", [0, 1, 54, 55, 56, 57, 63, 64, 65, 119, 120, 121, 128])
def test_the_lengths_around_which_md5_pads_differently(md5_many, length):
    for count in (1, 3, 4, 15, 16, 17, 31, 32, 33, 64, 67):
        assert md5_many(NOISE, length + 8, length, count) == one_by_one(NOISE, length + 8, length, count)


def test_every_lane_has_its_own_block(md5_many):
    same = md5_many(bytes(67 * 72), 72, 64, 67)
    assert same == hashlib.md5(bytes(64)).digest() * 67
    for index in range(67):
        buffer = bytearray(67 * 72)
        buffer[index * 72 + 63] = 1
        found = md5_many(buffer, 72, 64, 67)
        differ = [i for i in range(67) if found[16 * i : 16 * i + 16] != same[:16]]
        assert differ == [index]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_will_do(md5_many, kind):
    assert md5_many(kind(b"0123456789"), 5, 4, 2) == one_by_one(b"0123456789", 5, 4, 2)
    assert md5_many(memoryview(bytearray(b"0123456789")).toreadonly(), 10, 10, 1) == one_by_one(
        b"0123456789", 1, 10, 1
    )


def test_no_blocks_have_no_digests(md5_many):
    assert md5_many(b"", 1, 0, 0) == md5_many(b"", 99, 99, 0) == b""
    assert md5_many(b"", 1, 0, 1) == hashlib.md5(b"").digest()


@pytest.mark.parametrize(
    "arguments, words",
    [
        ((NOISE[:99], 10, 10, 10), "not all blocks are within the buffer"),
        ((NOISE[:99], 10, 9, 11), "not all blocks are within the buffer"),
        ((NOISE[:99], 100, 0, 2), "not all blocks are within the buffer"),
        ((NOISE[:99], 1, 100, 1), "not all blocks are within the buffer"),
        ((NOISE[:99], 1, 0, 101), "not all blocks are within the buffer"),
        ((b"", 1, 1, 1), "not all blocks are within the buffer"),
        ((NOISE[:99], sys.maxsize, 1, 2), "not all blocks are within the buffer"),
        ((NOISE[:99], 1, sys.maxsize, 1), "not all blocks are within the buffer"),
        ((NOISE[:99], 1, 0, sys.maxsize), "not all blocks are within the buffer"),
        ((NOISE[:99], sys.maxsize, sys.maxsize, sys.maxsize), "not all blocks are within the buffer"),
        ((NOISE[:99], 0, 1, 1), "stride must be at least 1"),
        ((NOISE[:99], -1, 1, 2), "stride must be at least 1"),
        ((NOISE[:99], 1, -1, 1), "length and count at least 0"),
        ((NOISE[:99], 1, 1, -1), "length and count at least 0"),
        ((NOISE[:99], -sys.maxsize - 1, 1, 1), "stride must be at least 1"),
    ],
)
def test_what_is_not_in_the_buffer_is_refused(md5_many, arguments, words):
    with pytest.raises(ValueError, match=words):
        md5_many(*arguments)


@pytest.mark.parametrize(
    "arguments", [("text", 1, 1, 1), (None, 1, 1, 1), (b"x", 1.0, 1, 1), (b"x", "1", 1, 1), (b"x",)]
)
def test_what_is_no_buffer_or_no_number_is_refused(md5_many, arguments):
    with pytest.raises(TypeError):
        md5_many(*arguments)


def test_a_buffer_with_gaps_is_refused(md5_many):
    with pytest.raises((BufferError, TypeError)):
        md5_many(memoryview(NOISE)[::2], 1, 1, 1)


def test_a_buffer_is_given_back(md5_many):
    buffer = bytearray(NOISE[:4096])
    md5_many(buffer, 64, 64, 64)
    with pytest.raises(ValueError):
        md5_many(buffer, 64, 64, 65)
    buffer.clear()  # impossible while somebody has it


def test_a_variant_that_there_is_not_is_refused():
    extension = function_of("default", "hashlib").__self__
    with pytest.raises(ValueError, match="no variant mmx here"):
        extension.md5_many(b"x", 1, 1, 1, "mmx")


def test_all_that_the_processor_has_is_used(request):
    if _md5lanes is None:
        function_of("default", request.config.getoption("--md5"))
    flags = set(pathlib.Path("/proc/cpuinfo").read_text().split())
    wanted = [name for name, flag in (("avx512", "avx512f"), ("avx2", "avx2")) if flag in flags] + ["plain"]
    assert list(_md5lanes.VARIANTS) == wanted
    assert md5many.engine == f"{_md5lanes.VARIANTS[wanted[0]]} lanes ({wanted[0]})"


def test_other_threads_run_meanwhile(md5_many):
    """While a thread computes, and only then, this one can run: it is not interrupted otherwise."""
    buffer = bytes(64 << 20)

    def another_ran():
        started, steps, running = threading.Event(), 0, True

        def compute():
            nonlocal running
            started.set()
            md5_many(buffer, 1 << 20, 1 << 20, 64)
            running = False

        thread = threading.Thread(target=compute)
        thread.start()
        started.wait()
        while running:
            steps += 1
            time.sleep(0)  # let it go on
        thread.join()
        return steps > 0

    before = sys.getswitchinterval()
    sys.setswitchinterval(100)
    try:
        assert any(another_ran() for _ in range(50))
    finally:
        sys.setswitchinterval(before)


def test_without_the_extension_hashlib_computes():
    script = (
        "import sys; sys.modules['blockdiff.blocks._md5lanes'] = None; from blockdiff.blocks import md5many as m; "
    )
    script += "print(m.engine, m.md5_many is m.with_hashlib)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "hashlib True\n"


def test_an_extension_that_computes_something_else_is_not_used(tmp_path):
    """As a compiler with a mistake would make it."""
    source = (ROOT / "blockdiff/blocks/md5lanes.c").read_text().replace("0xeb86d391u", "0xeb86d390u")
    built = tmp_path / "wrong.so"
    (tmp_path / "md5lanes.c").write_text(source)
    if _md5lanes is None:
        function_of("default", "hashlib")
    words = [sys.executable, ROOT / ".ci/extension.py", built, tmp_path / "md5lanes.c"]
    subprocess.run(words, check=True, env={**os.environ, "CFLAGS": "", "LD_PRELOAD": ""})
    script = (
        "import importlib.util as u, sys; s = u.spec_from_file_location('blockdiff.blocks._md5lanes', sys.argv[1]); "
        "sys.modules[s.name] = m = u.module_from_spec(s); s.loader.exec_module(m); "
        "from blockdiff.blocks import md5many; print(len(m.md5_many(b'x', 1, 1, 1)), md5many.engine)"
    )
    done = subprocess.run([sys.executable, "-c", script, built], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "16 hashlib\n"


def test_what_is_asked_for_computes(request):
    asked = request.config.getoption("--md5")
    if asked == "hashlib":
        assert (md5many.engine, md5many.md5_many) == ("hashlib", md5many.with_hashlib)
    else:
        function_of("default", asked)
        assert md5many.md5_many is _md5lanes.md5_many
        assert asked is None or _md5lanes.__file__ == asked


# spans


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_spans_have_their_digests(data):
    """Wherever they are: some missing, some of another length, some at another distance."""
    stride, place, spans = data.draw(st.integers(1, 90)), data.draw(st.integers(0, 99)), []
    for _ in range(data.draw(st.integers(0, 80))):
        length = data.draw(st.one_of(st.just(stride), st.just(max(0, stride - 8)), st.integers(0, stride)))
        spans.append((place, place + length))
        place += data.draw(
            st.one_of(st.just(stride), st.sampled_from([2, 3, 4]).map(stride.__mul__), st.integers(1, 300))
        )
    buffer = NOISE[: max((end for _, end in spans), default=0)]
    found = md5many.md5_of(buffer, spans, stride)
    assert found == [hashlib.md5(buffer[start:end]).digest() for start, end in spans]


def test_spans_that_are_near_each_other_are_computed_together(monkeypatch):
    """A hole of one block does not part them, a larger one does: what nobody asks for is not digested at length."""
    calls = []

    def compute(buffer, stride, length, count):
        calls.append((len(NOISE) - len(buffer), length, count))
        return md5many.with_hashlib(buffer, stride, length, count)

    monkeypatch.setattr(md5many, "md5_many", compute)
    spans = [(start, start + 64) for start in (8, 80, 224, 512, 584, 656)] + [(728, 760)]
    md5many.md5_of(NOISE, spans, 72)
    assert calls == [(8, 64, 4), (512, 64, 3), (728, 32, 1)]
