"""One suite for every codec, the programs that must read what we write, and bounds on what hostile bytes cost."""

import functools
import gzip
import io
import os
import shutil
import struct
import subprocess
import threading
import zlib

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memory import peak_below

from blockdiff import codecs
from blockdiff.errors import ProgramMissing
from blockdiff.formats import FormatError, TornError, difffile, messages

MIXED = bytes(5000) + os.urandom(3000) + b"text " * 700
INHERITED = [HealthCheck.differing_executors]  # one test, run for several classes
PAYLOADS = [b"x", bytes(70000), MIXED, os.urandom(200_000)]


def dripping(data, step):
    """A read that gives at most step bytes at a time."""
    file = io.BytesIO(data)
    return lambda size: file.read(min(size, step))


def program(name, *arguments, data):
    """What a program makes of data on its stdin."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    return subprocess.run([name, *arguments], input=data, stdout=subprocess.PIPE, check=True).stdout


class CodecContract:
    """What every codec promises."""

    codec: codecs.Codec
    shows_cuts = True

    def file(self, *members):
        """A diff file of members, each given as its parts."""
        return b"".join(self.codec.compress(parts) for parts in members)

    def streamed(self, data, step=1 << 20):
        return b"".join(self.codec.stream(dripping(data, step)))

    def unpacked_by_program(self, data):
        raise NotImplementedError

    def test_it_is_known_by_its_suffix(self):
        assert codecs.BY_SUFFIX[self.codec.suffix] is self.codec

    @pytest.mark.parametrize("payload", PAYLOADS, ids=len)
    def test_a_file_streams_back(self, payload):
        data = self.file([payload[:100], payload[100:]])
        assert self.streamed(data) == payload
        assert self.streamed(data, 1000) == payload

    def test_a_small_file_streams_byte_by_byte(self):
        data = self.file([b"head"], [b"some ", memoryview(b"records")], [bytearray(b"tail")])
        assert self.streamed(data, 1) == b"headsome recordstail"

    def test_pieces_are_bounded_and_none_is_empty(self):
        payload = bytes(3 << 20)
        for piece in self.codec.stream(io.BytesIO(self.file([payload])).read):
            assert 0 < len(piece) <= 4 << 20

    @given(st.lists(st.lists(st.binary(max_size=300), min_size=1, max_size=4), min_size=1, max_size=4), st.integers(1, 99))
    @settings(max_examples=40, deadline=None, suppress_health_check=INHERITED)
    def test_any_members_stream_back(self, members, step):
        members = [parts for parts in members if any(parts)] or [[b"x"]]
        assert self.streamed(self.file(*members), step) == b"".join(b"".join(parts) for parts in members)

    @pytest.mark.parametrize("payload", PAYLOADS, ids=len)
    def test_the_program_reads_what_we_write(self, payload):
        assert self.unpacked_by_program(self.file([b"head"], [payload])) == b"head" + payload

    def test_every_cut_of_a_member_is_noticed(self):
        data = self.file([b"a short text, ", b"a short text"])
        for cut in range(len(data)):
            if not self.shows_cuts:
                assert self.streamed(data[:cut]) == data[:cut]
                continue
            with pytest.raises(FormatError):
                self.streamed(data[:cut])

    def test_a_read_error_is_told_and_nothing_is_left(self):
        before = threading.active_count()

        def read(size, data=[self.file([MIXED])[:50]]):  # noqa: B006
            if data:
                return data.pop()
            raise OSError(5, "scripted")

        with pytest.raises(OSError, match="scripted"):
            list(self.codec.stream(read))
        assert threading.active_count() == before

    def test_a_stream_may_be_left_early(self):
        before = threading.active_count()
        stream = self.codec.stream(io.BytesIO(self.file([os.urandom(5 << 20)])).read)
        assert next(stream)
        stream.close()
        assert threading.active_count() == before


class MemberContract(CodecContract):
    """What those promise whose files are rows of members."""

    def frame_of(self, payload):
        """The payload compressed by somebody else."""
        raise NotImplementedError

    @pytest.mark.parametrize("payload", PAYLOADS, ids=len)
    def test_a_member_goes_both_ways(self, payload):
        member = self.codec.compress([payload[:10], memoryview(payload)[10:]])
        for form in (member, bytearray(member), memoryview(member)):
            assert self.codec.decompress(form, len(payload)) == payload

    @given(st.lists(st.binary(max_size=2000), min_size=1, max_size=5).filter(any))
    @settings(max_examples=60, deadline=None, suppress_health_check=INHERITED)
    def test_any_member_goes_both_ways(self, parts):
        payload = b"".join(parts)
        assert self.codec.decompress(self.codec.compress(parts), len(payload)) == payload

    def test_a_member_must_hold_exactly_what_was_expected(self):
        member = self.codec.compress([MIXED])
        for length in (0, 1, len(MIXED) - 1, len(MIXED) + 1, 1 << 40):
            with pytest.raises(FormatError):
                self.codec.decompress(member, length)
        for wrong in (member + b"\0", member + member, member[:-1], member[1:], b""):
            with pytest.raises(FormatError):
                self.codec.decompress(wrong, len(MIXED))

    def test_a_flipped_byte_is_an_error_or_leaves_the_length(self):
        member = self.codec.compress([MIXED[4900:5300]])
        for place in range(len(member)):
            damaged = bytearray(member)
            damaged[place] ^= 0x5A
            try:
                payload = self.codec.decompress(damaged, 400)
            except FormatError:
                continue
            assert len(payload) == 400

    def test_a_bomb_costs_no_more_than_was_expected(self):
        bomb = self.frame_of(bytes(128 << 20))
        with peak_below(4 << 20):
            with pytest.raises(FormatError):
                self.codec.decompress(bomb, 1000)

    def test_threads_do_not_disturb_each_other(self):
        failures = []

        def work(seed):
            payload = bytes([seed]) * 50_000 + os.urandom(1000)
            for _ in range(20):
                if self.codec.decompress(self.codec.compress([payload]), len(payload)) != payload:
                    failures.append(seed)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures


class TestPlain(CodecContract):
    codec = codecs.PLAIN
    shows_cuts = False  # the records and the digests do

    def unpacked_by_program(self, data):
        return data

    def test_a_member_is_its_payload(self):
        assert self.codec.decompress(memoryview(b"abc"), 3) == b"abc"
        with pytest.raises(TornError):
            self.codec.decompress(b"abc", 4)


class TestGzip(MemberContract):
    codec = codecs.GZIP

    def unpacked_by_program(self, data):
        return program("gunzip", "-c", data=data)

    def frame_of(self, payload):
        return gzip.compress(payload, 1)

    def test_it_reads_other_peoples_gzip(self):
        for level in (1, 6, 9):
            assert self.streamed(gzip.compress(MIXED, level), 100) == MIXED
        assert self.streamed(program("gzip", "-c", data=MIXED), 7) == MIXED

    @pytest.mark.parametrize("tail", [b"\0", b"x", b"\x1f", b"\x1f\x8b", b"\x1f\x8b\x08" + bytes(6), b"garbage " * 9])
    def test_what_follows_a_member_must_be_one(self, tail):
        with pytest.raises(FormatError):
            self.streamed(gzip.compress(MIXED) + tail)


class TestZstd(MemberContract):
    codec = codecs.ZSTD

    def unpacked_by_program(self, data):
        return program("zstd", "-dcq", data=data)

    def frame_of(self, payload):
        return zstandard.ZstdCompressor().compress(payload)

    def test_it_reads_the_programs_zstd(self, tmp_path):
        plain = tmp_path / "plain"
        plain.write_bytes(MIXED)
        assert self.streamed(program("zstd", "-cq", str(plain), data=None), 100) == MIXED
        framed = zstandard.ZstdCompressor(write_checksum=True).compress(MIXED)
        assert self.streamed(framed + framed, 1) == MIXED * 2

    def test_a_frame_says_its_size(self):
        member = self.codec.compress([MIXED])
        assert self.codec.length(member) == len(MIXED)
        unsaid = zstandard.ZstdCompressor(write_content_size=False).compress(MIXED)
        for wrong in (unsaid, b"", b"\x28\xb5", b"not a frame"):
            with pytest.raises(FormatError):
                self.codec.length(wrong)
        with pytest.raises(FormatError):
            self.codec.decompress(unsaid, len(MIXED))
        with pytest.raises(FormatError):
            self.streamed(unsaid)

    def lying(self, said, payload):
        """A frame that says it holds `said` bytes and holds payload."""
        blocks = b"".join(
            struct.pack("<I", min(1 << 17, len(payload) - place) << 3)[:3] + payload[place : place + (1 << 17)]
            for place in range(0, len(payload), 1 << 17)
        )
        return b"\x28\xb5\x2f\xfd\xc0\x38" + struct.pack("<Q", said) + blocks + b"\x01\0\0"

    def test_the_frames_made_here_are_right(self):
        assert self.codec.decompress(self.lying(300_000, b"z" * 300_000), 300_000) == b"z" * 300_000

    @pytest.mark.parametrize("said", [1, 99, 101, 1 << 20, 1 << 27, 1 << 40, (1 << 64) - 3])
    def test_a_frame_that_lies_about_its_size_is_refused(self, said):
        frame = self.lying(said, b"z" * 100)
        with peak_below(8 << 20):
            for length in (100, min(said, 1 << 20)):
                with pytest.raises(FormatError):
                    self.codec.decompress(frame, length)
            if said > codecs.zstd._MAX_FRAME:
                with pytest.raises(FormatError):
                    self.streamed(frame)

    def test_a_frame_of_run_length_blocks_is_no_bomb(self):
        """2 GiB of zeros in 64 KiB: neither the member nor the stream takes it."""
        run = ((1 << 17) << 3 | 2).to_bytes(3, "little") + b"\0"
        for said in (1000, 2 << 30):
            bomb = b"\x28\xb5\x2f\xfd\xc0\x38" + struct.pack("<Q", said) + run * (1 << 14) + b"\x01\0\0"
            with peak_below(8 << 20):
                with pytest.raises(FormatError):
                    self.codec.decompress(bomb, 1000)
                with pytest.raises(FormatError):
                    self.streamed(bomb)

    def test_a_frame_without_end_is_refused_before_it_fills_the_memory(self):
        head = b"\x28\xb5\x2f\xfd\xc0\x38" + struct.pack("<Q", 1000)
        block = (100_000 << 3).to_bytes(3, "little") + bytes(100_000)

        def forever(size, sent=[0]):  # noqa: B006
            sent[0] += 1
            assert sent[0] < 3000
            return head if sent[0] == 1 else block

        with pytest.raises(FormatError):
            list(self.codec.stream(forever))

    SHAPES = [(1, 4), (8, 4), (512, 1), (512, 100), (16834, 7), (131072, 3), (131073, 3), (1 << 20, 2), (1 << 24, 1)]

    @pytest.mark.parametrize("block_size, count", SHAPES)
    @pytest.mark.parametrize("prefix", [b"", b"\x08\0\0\0"], ids=["bare", "with header"])
    def test_zero_members_are_what_the_program_and_the_codec_read(self, block_size, count, prefix):
        member = self.codec.zeros(prefix, 5, block_size, count)
        payload = prefix + b"".join(
            difffile.encode_offset((5 + i) * block_size) + bytes(block_size) for i in range(count)
        )
        assert self.codec.decompress(member, len(payload)) == payload
        assert self.codec.length(member) == len(payload)
        assert program("zstd", "-dcq", data=member) == payload
        assert list(self.codec.frames(dripping(member * 2, 5))) == [member] * 2
        assert self.codec.zero_run(member, len(prefix), block_size) == (5, count)
        assert self.codec.zero_run(memoryview(member), len(prefix), block_size) == (5, count)

    def test_the_pages_zero_member(self):
        # blockdiff-formats(5), "Members", by hand: block 3 of 128 KiB and 5 bytes a block, two of them
        size = (1 << 17) + 5
        record = b"\x40\0\0" + b"%s" + b"\x02\0\x10\0" + b"\x2a\0\0\0"
        wire = b"\x28\xb5\x2f\xfd\x80\x38" + struct.pack("<I", 2 * (8 + size))
        for index in (3, 4):
            wire += record % struct.pack("<Q", index * size)
        assert self.codec.zeros(b"", 3, size, 2) == wire + b"\x01\0\0"

    def test_only_a_zero_member_is_taken_for_one(self):
        member = self.codec.zeros(b"", 5, 512, 6)
        records = [(difffile.encode_offset(i * 512), bytes(512)) for i in range(5, 11)]
        assert self.codec.zero_run(self.codec.compress([part for pair in records for part in pair]), 0, 512) is None
        assert self.codec.zero_run(member, 0, 1024) is None
        assert self.codec.zero_run(member, 4, 512) is None
        for cut in range(len(member)):
            assert self.codec.zero_run(member[:cut], 0, 512) is None
        assert self.codec.zero_run(member + b"\0", 0, 512) is None
        for place in range(len(member)):
            for bit in range(8):
                damaged = bytearray(member)
                damaged[place] ^= 1 << bit
                found = self.codec.zero_run(damaged, 0, 512)
                if found is not None:  # another run, whole and well formed: then it is what is decompressed
                    first, count = found
                    assert self.codec.zeros(b"", first, 512, count) == damaged

    @given(st.binary(max_size=200), st.integers(1, 1 << 24), st.sampled_from([0, 4]))
    @settings(max_examples=100, deadline=None)
    def test_looking_for_zero_runs_is_bounded(self, body, block_size, prefix):
        self.codec.zero_run(b"\x28\xb5\x2f\xfd\x80\x38" + body, prefix, block_size)


@pytest.mark.skipif(shutil.which("lzop") is None, reason="lzop is not installed")
class TestLzop(CodecContract):
    codec = codecs.LZOP

    def file(self, *members):
        out = []
        writer = codecs.LzopWriter(out.append)
        for parts in members:
            writer.write(self.codec.compress(parts))
        writer.close()
        return b"".join(out)

    def unpacked_by_program(self, data):
        return program("lzop", "-dc", data=data)

    @given(st.lists(st.binary(max_size=300), min_size=1, max_size=4))
    @settings(max_examples=8, deadline=None)
    def test_any_members_stream_back(self, parts):
        assert self.streamed(self.file(parts), 50) == b"".join(parts)

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


def test_the_codecs_without_a_short_form_for_zeros_say_so():
    for codec in (codecs.PLAIN, codecs.GZIP, codecs.LZOP):
        assert codec.zeros(b"", 0, 512, 9) is None
        assert codec.zero_run(b"anything", 0, 512) is None


# what a DATA frame carries

ZLIB, ZSTD = functools.partial(zlib.compress, level=1), zstandard.ZstdCompressor().compress


@pytest.mark.parametrize("payload", [b"x", MIXED, bytes(1 << 20), os.urandom(1 << 20)], ids=len)
def test_the_wire_is_unwrapped(payload):
    for codec, body in ((messages.RAW, payload), (messages.ZLIB, ZLIB(payload)), (messages.ZSTD, ZSTD(payload))):
        assert codecs.unwrap(codec, len(payload), memoryview(body)) == payload


@pytest.mark.parametrize("codec, pack", [(messages.ZLIB, ZLIB), (messages.ZSTD, ZSTD)], ids=["zlib", "zstd"])
def test_the_wire_is_unwrapped_to_exactly_what_was_said(codec, pack):
    body = pack(MIXED)
    for length in (1, len(MIXED) - 1, len(MIXED) + 1, 1 << 20):
        with pytest.raises(FormatError):
            codecs.unwrap(codec, length, body)
    for wrong in (b"", body[:-1], body[:20], body + b"\0", body + body, b"garbage", os.urandom(300)):
        with pytest.raises(FormatError):
            codecs.unwrap(codec, len(MIXED), wrong)


@pytest.mark.parametrize("codec, pack", [(messages.ZLIB, ZLIB), (messages.ZSTD, ZSTD)], ids=["zlib", "zstd"])
def test_a_bomb_on_the_wire_costs_what_was_said(codec, pack):
    bomb = pack(bytes(128 << 20))
    for length in (1, 1 << 20):
        with peak_below(4 * length + (1 << 20)):
            with pytest.raises(FormatError):
                codecs.unwrap(codec, length, bomb)
