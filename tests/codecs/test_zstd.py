import hashlib
import io
import os
import struct

import pytest
import zstandard
from contract import MIXED, SHAPES, ZeroContract, dripping, program
from memory import peak_below

from blockdiff import codecs
from blockdiff.codecs import base
from blockdiff.formats import FormatError


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

    def frames(self, data, step=100):
        return list(self.codec.frames(dripping(data, step)))

    def test_a_frame_says_its_size(self):
        (frame,) = self.frames(self.codec.compress(MIXED))
        assert frame.length == len(MIXED) and frame.small
        for size in (0, 1, 255, 256, 257, 65535, 65536 + 255, 65536 + 256, 300_000):
            for payload in (bytes(size), os.urandom(size)):
                (frame,) = self.frames(zstandard.ZstdCompressor().compress(payload))
                assert frame.length == size
        for wrong in (b"\x28\xb5", b"not a frame", self.codec.compress(MIXED)[:-1]):
            with pytest.raises(FormatError):
                self.frames(wrong)

    def test_a_frame_that_does_not_say_its_size_is_read_as_a_stream(self):
        unsaid = zstandard.ZstdCompressor(write_content_size=False).compress(MIXED)
        with pytest.raises(FormatError):
            self.codec.decompress(unsaid, len(MIXED))
        assert [frame.length for frame in self.frames(unsaid * 2)] == [None, None]
        for step in (1, 100, 1 << 20):
            assert self.streamed(unsaid * 2, step) == MIXED * 2
        for cut in range(1, len(unsaid), 97):
            with pytest.raises(FormatError):
                self.streamed(unsaid + unsaid[:cut])

    @pytest.mark.parametrize("payload", [bytes(9 << 20), os.urandom(9 << 20)], ids=["packed", "not packed"])
    @pytest.mark.parametrize("sized", [True, False], ids=["sized", "not sized"])
    def test_a_large_frame_is_read_as_a_stream(self, payload, sized, monkeypatch):
        monkeypatch.setattr(base, "MAX_MEMBER", 1 << 20)
        frame = zstandard.ZstdCompressor(write_content_size=sized, write_checksum=True).compress(payload)
        data = self.codec.compress(MIXED) + frame + self.codec.compress(MIXED)
        with peak_below((9 << 20) - 1):
            found, place = hashlib.sha256(), 0
            for piece in self.codec.stream(io.BytesIO(data).read):
                assert len(piece) <= 1 << 20
                found.update(piece)
                place += len(piece)
        assert found.digest() == hashlib.sha256(MIXED + payload + MIXED).digest()
        places = []
        for part in self.codec.frames(dripping(data, 50_000)):
            places.append(part.place)
            assert part.data or len(frame) > 4 << 20
        assert places == [0, len(self.codec.compress(MIXED)), len(data) - len(self.codec.compress(MIXED))]
        spoilt = bytearray(data)
        spoilt[places[2] - 2] ^= 1  # the frame's checksum
        for damaged in (data[: places[2] - 5], bytes(spoilt)):
            with pytest.raises(FormatError):
                self.streamed(damaged, 1 << 20)

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
            with pytest.raises(FormatError):
                self.streamed(frame)

    def test_a_frame_of_run_length_blocks_is_no_bomb(self):
        """2 GiB of zeros in 64 KiB: the member is not taken, and the stream gives them a piece at a time."""
        run = ((1 << 17) << 3 | 2).to_bytes(3, "little") + b"\0"
        for said in (1000, 2 << 30):
            bomb = b"\x28\xb5\x2f\xfd\xc0\x38" + struct.pack("<Q", said) + run * (1 << 14) + b"\x01\0\0"
            with peak_below(8 << 20):
                with pytest.raises(FormatError):
                    self.codec.decompress(bomb, 1000)
                pieces = self.codec.stream(io.BytesIO(bomb).read)
                if said == 1000:
                    with pytest.raises(FormatError):
                        list(pieces)
                else:
                    assert all(len(next(pieces)) <= 1 << 20 for _ in range(100))

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
        frames = self.frames(member * 2, 5)
        assert [frame.data for frame in frames] == [member] * 2
        assert {frame.length for frame in frames} == {count * (8 + block_size)}

    def test_the_pages_zero_member(self):
        # blockdiff-formats(5), "Members", by hand: block 3 of 128 KiB and 5 bytes a block, two of them
        size = (1 << 17) + 5
        record = b"\x40\0\0" + b"%s" + b"\x02\0\x10\0" + b"\x2a\0\0\0"
        wire = b"\x28\xb5\x2f\xfd\x80\x38" + struct.pack("<I", 2 * (8 + size))
        for index in (3, 4):
            wire += record % struct.pack("<Q", index * size)
        assert self.codec.zeros(3, size, 2) == wire + b"\x01\0\0"
