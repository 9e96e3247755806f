import struct

import pytest
import zstandard
from contract import MIXED, SHAPES, ZeroContract, dripping, program
from memory import peak_below

from blockdiff import codecs
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
