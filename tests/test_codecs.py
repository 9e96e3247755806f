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
NOISE = os.urandom(1 << 20)
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
        """A diff file of members, each given as its payload."""
        return b"".join(self.codec.compress(payload) for payload in members)

    def streamed(self, data, step=1 << 20):
        return b"".join(self.codec.stream(dripping(data, step)))

    def unpacked_by_program(self, data):
        raise NotImplementedError

    def test_it_is_known_by_its_suffix(self):
        assert codecs.BY_SUFFIX[self.codec.suffix] is self.codec

    @pytest.mark.parametrize("payload", PAYLOADS, ids=len)
    def test_a_file_streams_back(self, payload):
        data = self.file(payload)
        assert self.streamed(data) == payload
        assert self.streamed(data, 1000) == payload

    def test_a_small_file_streams_byte_by_byte(self):
        data = self.file(b"head", memoryview(b"some records"), bytearray(b"tail"))
        assert self.streamed(data, 1) == b"headsome recordstail"

    def test_pieces_are_bounded_and_none_is_empty(self):
        payload = bytes(3 << 20)
        for piece in self.codec.stream(io.BytesIO(self.file(payload)).read):
            assert 0 < len(piece) <= 4 << 20

    @given(st.lists(st.binary(max_size=1200), min_size=1, max_size=4), st.integers(1, 99))
    @settings(max_examples=40, deadline=None, suppress_health_check=INHERITED)
    def test_any_members_stream_back(self, members, step):
        members = [payload for payload in members if payload] or [b"x"]
        assert self.streamed(self.file(*members), step) == b"".join(members)

    @pytest.mark.parametrize("payload", PAYLOADS, ids=len)
    def test_the_program_reads_what_we_write(self, payload):
        assert self.unpacked_by_program(self.file(b"head", payload)) == b"head" + payload

    def test_every_cut_of_a_member_is_noticed(self):
        data = self.file(b"a short text, a short text")
        for cut in range(len(data)):
            if not self.shows_cuts:
                assert self.streamed(data[:cut]) == data[:cut]
                continue
            with pytest.raises(FormatError):
                self.streamed(data[:cut])

    def test_a_read_error_is_told_and_nothing_is_left(self):
        before = threading.active_count()

        def read(size, data=[self.file(MIXED)[:50]]):  # noqa: B006
            if data:
                return data.pop()
            raise OSError(5, "scripted")

        with pytest.raises(OSError, match="scripted"):
            list(self.codec.stream(read))
        assert threading.active_count() == before

    def test_a_stream_may_be_left_early(self):
        before = threading.active_count()
        stream = self.codec.stream(io.BytesIO(self.file(os.urandom(5 << 20))).read)
        assert next(stream)
        stream.close()
        assert threading.active_count() == before


class MemberContract(CodecContract):
    """What those promise whose files are rows of members."""

    def frame_of(self, payload):
        """The payload compressed by somebody else."""
        raise NotImplementedError

    def follows(self, member):
        """What must not follow a member."""
        return [b"\0", b"garbage", b"junk" + member[-4:], self.codec.compress(b"another")]

    @pytest.mark.parametrize("payload", PAYLOADS, ids=len)
    def test_a_member_goes_both_ways(self, payload):
        for packed in map(self.codec.compress, (payload, bytearray(payload), memoryview(payload))):
            for form in (packed, bytearray(packed), memoryview(packed), self.frame_of(payload)):
                assert self.codec.decompress(form, len(payload)) == payload

    @given(st.binary(max_size=10_000))
    @settings(max_examples=60, deadline=None, suppress_health_check=INHERITED)
    def test_any_member_goes_both_ways(self, payload):
        assert self.codec.decompress(self.codec.compress(payload), len(payload)) == payload

    @pytest.mark.parametrize("payload", [MIXED, NOISE[:9000]], ids=len)
    def test_a_member_must_hold_exactly_what_was_expected(self, payload):
        member = self.codec.compress(payload, len(payload))
        assert self.codec.decompress(member, len(payload)) == payload
        for length in (0, 1, len(payload) - 1, len(payload) + 1, 1 << 20, 1 << 40):
            with pytest.raises(FormatError):
                self.codec.decompress(member, length)
        for junk in self.follows(member):
            with pytest.raises(FormatError):
                self.codec.decompress(member + junk, len(payload))
        for wrong in (b"", member[:-1], member[1:]):
            with pytest.raises(FormatError):
                self.codec.decompress(wrong, len(payload))

    def test_a_flipped_byte_is_an_error_or_leaves_the_length(self):
        member = self.codec.compress(MIXED[4900:5300])
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
            for length in (0, 1, 1000):
                with pytest.raises(FormatError):
                    self.codec.decompress(bomb, length)

    def test_threads_do_not_disturb_each_other(self):
        failures = []

        def work(seed):
            payload = bytes([seed]) * 50_000 + os.urandom(10_000)
            for step in [0, 10_000] * 10:
                if self.codec.decompress(self.codec.compress(payload, step), len(payload)) != payload:
                    failures.append(seed)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures


SHAPES = [
    (1, 4), (8, 4), (512, 1), (512, 100), (8191, 3), (8192, 1), (8192, 600), (16834, 7), (65536, 64), (65537, 5),
    (131072, 3), (131073, 3), (1 << 20, 4), (1 << 24, 1), (1 << 24, 2),
]  # fmt: skip


def zero_records(first, block_size, count):
    """The payload that a zero member stands for."""
    return b"".join(difffile.encode_offset(i * block_size) + bytes(block_size) for i in range(first, first + count))


class ZeroContract(MemberContract):
    """What those promise that write members of zero blocks without compressing."""

    least = 1  # bytes of a block that has this form
    said: slice  # where a zero member says how much it holds, as u32

    def unpacked_by_python(self, data):
        raise NotImplementedError

    @pytest.mark.parametrize("block_size, count", SHAPES)
    def test_zero_members_are_what_the_program_and_the_codec_read(self, block_size, count):
        member = self.codec.zeros(5, block_size, count)
        payload = zero_records(5, block_size, count)
        if block_size < self.least:
            assert member is None
            assert self.codec.zero_run(self.codec.compress(payload), block_size) is None
            return
        assert self.codec.decompress(member, len(payload)) == payload
        assert self.unpacked_by_program(member) == payload
        assert self.unpacked_by_python(member) == payload
        assert self.streamed(member + member, 4099) == payload + payload
        assert len(member) < 64 + count * (40 + block_size // 1000)
        for form in (member, bytearray(member), memoryview(member)):
            assert self.codec.zero_run(form, block_size) == (5, count)

    @given(st.integers(0, 1 << 45), st.sampled_from([8192, 8193, 65543]), st.integers(1, 5))
    @settings(max_examples=50, deadline=None, suppress_health_check=INHERITED)
    def test_any_zero_member_is_right(self, first, block_size, count):
        member = self.codec.zeros(first, block_size, count)
        assert self.unpacked_by_python(member) == zero_records(first, block_size, count)
        assert self.codec.zero_run(member, block_size) == (first, count)

    def test_a_zero_member_ends_where_offsets_do(self):
        first = difffile.MAX_OFFSET // 8192 - 3
        assert self.codec.zero_run(self.codec.zeros(first, 8192, 3), 8192) == (first, 3)
        for beyond in (first + 1, first + 3, first + 4):
            assert self.codec.zero_run(self.codec.zeros(beyond, 8192, 3), 8192) is None

    @pytest.mark.parametrize("count", [1, 6])
    def test_only_a_zero_member_is_taken_for_one(self, count):
        member, payload = self.codec.zeros(5, 8192, count), zero_records(5, 8192, count)
        others = [self.codec.compress(payload), self.codec.compress(payload, 8200), self.frame_of(payload)]
        others += [member[:cut] for cut in range(len(member))]
        others += [member + junk for junk in (b"\0", b"junk", member, member[-8:])]
        others += [b"\0" + member, self.codec.compress(b"\x08\0\0\0") + member]
        for other in others:
            assert self.codec.zero_run(other, 8192) is None
        for block_size in (1, 4096, 8191, 8193, 16384, 65536, 8200 * count - 8 + 8192 * (count == 1), 1 << 24):
            assert self.codec.zero_run(member, block_size) is None

    @pytest.mark.parametrize("count", [1, 6])
    def test_a_flipped_bit_is_no_zero_member_or_another_one(self, count):
        member = self.codec.zeros(5, 8192, count)
        for place in range(len(member) * 8):
            damaged = bytearray(member)
            damaged[place // 8] ^= 1 << place % 8
            found = self.codec.zero_run(damaged, 8192)
            if found is not None:  # whole and well formed: then it is what is decompressed
                assert self.codec.zeros(found[0], 8192, found[1]) == damaged
                assert self.codec.decompress(damaged, found[1] * 8200) == zero_records(found[0], 8192, found[1])

    @given(st.sampled_from([512, 8192, 65537, 1 << 20]), st.integers(0, 1 << 20), st.binary(max_size=200))
    @settings(max_examples=200, deadline=None, suppress_health_check=INHERITED)
    def test_looking_for_zero_runs_never_raises(self, block_size, cut, rest):
        """What begins as a zero member does, or some of it, and goes on as it likes."""
        member = self.codec.zeros(5, max(block_size, self.least), 2)
        for end in (cut % len(member), cut % 40):
            self.codec.zero_run(member[:end] + rest, block_size)

    @pytest.mark.parametrize("block_size", [8192, 65536, 1 << 24])
    def test_looking_for_zero_runs_is_bounded_whatever_a_member_claims(self, block_size):
        member = bytearray(self.codec.zeros(5, block_size, 2))
        for claimed in (0, 1, 3, 255, (1 << 32) // (8 + block_size)):
            for more in (0, 1):
                member[self.said] = struct.pack("<I", claimed * (8 + block_size) + more)
                with peak_below(16 << 20):
                    assert self.codec.zero_run(member, block_size) is None


class TestPlain(CodecContract):
    codec = codecs.PLAIN
    shows_cuts = False  # the records and the digests do

    def unpacked_by_program(self, data):
        return data

    def test_a_member_is_its_payload(self):
        assert self.codec.decompress(memoryview(b"abc"), 3) == b"abc"
        with pytest.raises(TornError):
            self.codec.decompress(b"abc", 4)


class TestGzip(ZeroContract):
    codec = codecs.GZIP
    said = slice(-4, None)
    least = 8192

    HEADER = b"\x1f\x8b\x08\0\0\0\0\0\x04\xff"  # RFC 1952: deflate, no name, no time, the fastest way, any system
    LAST = b"\x03\0"  # RFC 1951: a last block, of fixed codes, at once at its end

    def unpacked_by_program(self, data):
        return program("gunzip", "-c", data=data)

    def unpacked_by_python(self, data):
        return gzip.decompress(data)

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

    def test_what_a_member_says_of_its_size_costs_nothing(self):
        for claimed in (0, 1, len(MIXED) + 1, 1 << 28, (1 << 32) - 1):
            lie = self.codec.compress(MIXED)[:-4] + struct.pack("<I", claimed)
            for length in (0, 1, 1000, len(MIXED), len(MIXED) + 1):
                with peak_below(1 << 20), pytest.raises(FormatError):
                    self.codec.decompress(lie, length)

    def test_a_member_may_hold_what_its_end_looks_like(self):
        member = gzip.compress(MIXED)
        twice = member[:3] + b"\x04" + member[4:10] + b"\x08\0" + member[-8:] + member[10:]  # in an extra field
        assert self.codec.decompress(twice, len(MIXED)) == self.unpacked_by_program(twice) == MIXED
        # what ends as the member does is not seen behind it, but never given out, either
        for more in (twice + twice, twice + member, member + twice, twice + twice[-8:]):
            assert self.codec.decompress(more, len(MIXED)) == MIXED

    def test_a_member_of_nothing(self):
        empty = self.codec.compress(b"")
        assert self.codec.decompress(empty, 0) == self.codec.decompress(gzip.compress(b""), 0) == b""
        for wrong in (b"", b"garbage" * 9, empty[:-1], empty[1:], empty + b"\0", empty + empty, self.codec.compress(b"x")):
            with pytest.raises(FormatError):
                self.codec.decompress(wrong, 0)

    def test_the_pages_zero_member(self):
        # blocks 3 and 4 of 8 KiB by hand; only the zeros are left to the library
        work = zlib.compressobj(9, zlib.DEFLATED, -15)
        zeros = work.compress(bytes(8192)) + work.flush(zlib.Z_SYNC_FLUSH)
        assert zeros.endswith(b"\0\0\xff\xff")  # a stored block of no bytes, whose type is in the bits before
        wire = self.HEADER + b"\0"  # a stored block, not the last
        for index in (3, 4):
            wire += b"\x08\0\xf7\xff" + struct.pack("<Q", index * 8192) + zeros[:-4]
        wire += zeros[-4:] + self.LAST + struct.pack("<II", zlib.crc32(zero_records(3, 8192, 2)), 2 * 8200)
        assert self.codec.zeros(3, 8192, 2) == wire
        assert self.unpacked_by_program(wire) == zero_records(3, 8192, 2)

    @pytest.mark.parametrize("size", [8192, 65535, 65536, 131070, 131071, 1 << 20])
    def test_what_does_not_pack_is_stored(self, size):
        wire = self.HEADER
        for start in range(0, size, 65535):
            some = NOISE[:size][start : start + 65535]
            wire += b"\0" + struct.pack("<HH", len(some), 65535 - len(some)) + some
        wire += self.LAST + struct.pack("<II", zlib.crc32(NOISE[:size]), size)
        assert self.codec.compress(NOISE[:size], size) == wire
        assert self.codec.decompress(wire, size) == self.unpacked_by_program(wire) == NOISE[:size]

    def record(self, kind, number, step):
        """A record of step bytes."""
        text = b"line %d of a text, " % number
        block = {"noise": NOISE[number * 70_000 :], "zeros": bytes(step), "text": text * (step // 16)}[kind]
        return (difffile.encode_offset(number * (step - 8)) + block)[:step]

    KINDS = st.lists(st.sampled_from(["noise", "zeros", "text"]), max_size=6)

    @given(KINDS, st.sampled_from([8192, 8200, 30_001, 65_544, 70_000]), st.one_of(st.just(0), st.integers(0, 69_999)))
    @settings(max_examples=100, deadline=None)
    def test_records_that_pack_and_others_in_any_order(self, kinds, step, missing):
        rows = [self.record(kind, number, step) for number, kind in enumerate(kinds)]
        rows[-1:] = [row[: step - missing % step] for row in rows[-1:]]  # the last one is shorter
        payload = b"".join(rows)
        members = [self.codec.compress(payload, told) for told in (step, 0, 1, 8191, 8192, step + 1)]
        for member in members:
            assert self.codec.decompress(member, len(payload)) == payload
            assert self.unpacked_by_python(member) == payload
        assert self.unpacked_by_program(b"".join(members)) == payload * len(members)
        assert self.streamed(b"".join(members), 9999) == payload * len(members)
        noise = sum(len(row) for kind, row in zip(kinds, rows, strict=True) if kind == "noise")
        assert len(members[0]) <= 1.001 * noise + (len(payload) - noise) / 20 + 64


class TestZstd(ZeroContract):
    codec = codecs.ZSTD
    said = slice(6, 10)

    def follows(self, member):
        return [*super().follows(member), member, member[-8:]]

    def unpacked_by_program(self, data):
        return program("zstd", "-dcq", data=data)

    def unpacked_by_python(self, data):
        return zstandard.ZstdDecompressor().decompress(data)

    def frame_of(self, payload):
        return zstandard.ZstdCompressor().compress(payload)

    def test_it_reads_the_programs_zstd(self, tmp_path):
        plain = tmp_path / "plain"
        plain.write_bytes(MIXED)
        assert self.streamed(program("zstd", "-cq", str(plain), data=None), 100) == MIXED
        framed = zstandard.ZstdCompressor(write_checksum=True).compress(MIXED)
        assert self.streamed(framed + framed, 1) == MIXED * 2

    def test_a_frame_says_its_size(self):
        member = self.codec.compress(MIXED)
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

    @pytest.mark.parametrize("block_size, count", SHAPES)
    def test_zero_frames_are_found_one_by_one(self, block_size, count):
        member = self.codec.zeros(5, block_size, count)
        assert self.codec.length(member) == count * (8 + block_size)
        assert list(self.codec.frames(dripping(member * 2, 5))) == [member] * 2

    def test_the_pages_zero_member(self):
        # blockdiff-formats(5), "Members", by hand: block 3 of 128 KiB and 5 bytes a block, two of them
        size = (1 << 17) + 5
        record = b"\x40\0\0" + b"%s" + b"\x02\0\x10\0" + b"\x2a\0\0\0"
        wire = b"\x28\xb5\x2f\xfd\x80\x38" + struct.pack("<I", 2 * (8 + size))
        for index in (3, 4):
            wire += record % struct.pack("<Q", index * size)
        assert self.codec.zeros(3, size, 2) == wire + b"\x01\0\0"


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


def test_the_codecs_without_a_short_form_for_zeros_say_so():
    for codec in (codecs.PLAIN, codecs.LZOP):
        for block_size in (512, 8192):
            assert codec.zeros(0, block_size, 9) is None
            for member in (b"anything", codecs.GZIP.zeros(0, 8192, 9), codecs.ZSTD.zeros(0, block_size, 9)):
                assert codec.zero_run(member, block_size) is None


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
