import io
import os
import shutil
import threading

import pytest
from contract import MIXED, CodecContract, program
from hypothesis import given, settings
from hypothesis import strategies as st

from blockdiff import codecs
from blockdiff.errors import ProgramMissing
from blockdiff.formats import FormatError, TornError


@pytest.mark.skipif(shutil.which("lzop") is None, reason="lzop is not installed")
class TestLzop(CodecContract):
    codec = codecs.LZOP

    def file(self, *members):
        out = []
        writer = codecs.LzopWriter(out.append)
        for payload in members:
            writer.write(self.codec.compress(payload))
        writer.close()
        return b"".join(out)

    def unpacked_by_program(self, data):
        return program("lzop", "-dc", data=data)

    @given(st.lists(st.binary(max_size=300), min_size=1, max_size=4))
    @settings(max_examples=8, deadline=None)
    def test_any_members_stream_back(self, parts):
        assert self.streamed(self.file(*parts), 50) == b"".join(parts)

    def test_it_has_no_members(self):
        with pytest.raises(FormatError):
            self.codec.decompress(b"", 0)

    def test_garbage_is_torn(self):
        for data in (b"", b"garbage", bytes(1000)):
            with pytest.raises(TornError):
                self.streamed(data)

    def test_a_sink_that_fails_is_told(self):
        def sink(data):
            raise OSError(28, "scripted")

        writer = codecs.LzopWriter(sink)
        with pytest.raises(OSError, match="scripted"):
            for _ in range(100):
                writer.write(os.urandom(1 << 20))
            writer.close()
        writer.abort()

    def test_a_writer_may_be_given_up(self):
        before = threading.active_count()
        writer = codecs.LzopWriter(lambda data: None)
        writer.write(MIXED)
        writer.abort()
        assert threading.active_count() == before


def test_a_missing_lzop_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ProgramMissing, match="lzop"):
        codecs.LzopWriter(print)
    with pytest.raises(ProgramMissing, match="lzop"):
        list(codecs.LZOP.stream(io.BytesIO(b"x").read))
