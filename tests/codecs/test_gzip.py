import gzip
import struct
import zlib

import pytest
from contract import MIXED, NOISE, ZeroContract, program, zero_records
from hypothesis import given, settings
from hypothesis import strategies as st
from memory import peak_below

from blockdiff import codecs
from blockdiff.formats import FormatError, difffile


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
