"""One suite for every codec, the programs that must read what we write, and bounds on what hostile bytes cost."""

import io
import os
import shutil
import struct
import subprocess
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memory import peak_below

from blockdiff import codecs
from blockdiff.formats import FormatError, difffile

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
