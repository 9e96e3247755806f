import pytest
from contract import CodecContract

from blockdiff import codecs
from blockdiff.formats import TornError


class TestPlain(CodecContract):
    codec = codecs.PLAIN
    shows_cuts = False  # the records and the digests do

    def unpacked_by_program(self, data):
        return data

    def test_a_member_is_its_payload(self):
        assert self.codec.decompress(memoryview(b"abc"), 3) == b"abc"
        with pytest.raises(TornError):
            self.codec.decompress(b"abc", 4)


def test_the_codecs_without_a_short_form_for_zeros_say_so():
    for codec in (codecs.PLAIN, codecs.LZOP):
        for block_size in (512, 8192):
            assert codec.zeros(0, block_size, 9) is None
            for member in (b"anything", codecs.GZIP.zeros(0, 8192, 9), codecs.ZSTD.zeros(0, block_size, 9)):
                assert codec.zero_run(member, block_size) is None
