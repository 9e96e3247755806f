"""Digests, compression and zero tests against other implementations, also where the host has no libraries."""

import hashlib
import random
import zlib

import pytest
import xxhash

from agent import native
from blockdiff.ingest import wirecodecs
from blockdiff.wire import messages

DATA = random.Random(3).randbytes(70_000)
OTHERS = {
    "md5": lambda data: hashlib.md5(data, usedforsecurity=False).digest(),
    "xxh128": xxhash.xxh3_128_digest,
}


def buffer_of(data, place=0):
    return native.Buffer(bytearray(bytes(place) + data), place, len(data))


@pytest.fixture(params=["ctypes", "no ctypes"])
def host(request, monkeypatch):
    if request.param == "no ctypes":
        monkeypatch.setattr(native, "ctypes", None)
    return request.param


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("block_size", [1, 999, 4096, 69_999, 70_000, 1 << 20])
def test_digests_are_those_of_another_implementation(kind, block_size):
    digester = native.digester(kind)
    if digester is None:
        pytest.skip("no library here")
    length = len(DATA) - 100 if block_size > 1 else 50
    blocks = [DATA[:length][start : start + block_size] for start in range(0, length, block_size)]
    expected = [OTHERS[kind](block) for block in blocks]
    assert digester.digests(buffer_of(DATA, 7), length, block_size) == b"".join(expected)
    assert digester.digest(blocks[-1]) == expected[-1]


def test_without_libraries_there_is_md5_and_zlib(monkeypatch):
    monkeypatch.setattr(native, "ctypes", None)
    assert native.digester("md5").digests(buffer_of(b"ab"), 2, 1) == OTHERS["md5"](b"a") + OTHERS["md5"](b"b")
    assert native.digester("xxh128") is None
    compressor = native.compressor()
    assert (compressor.name, compressor.code) == ("zlib", messages.ZLIB)
    assert zlib.decompress(compressor.compress(bytearray(b"text " * 1000))) == b"text " * 1000


def test_what_is_compressed_the_server_can_read():
    compressor = native.compressor()
    for data in (b"text " * 10_000, DATA, b"x"):
        packed = compressor.compress(bytearray(data))
        assert wirecodecs.unwrap(compressor.code, len(data), packed) == data


def test_zero_is_all_zero(host):
    is_zero = native.ZeroTest(1000)
    buffer = buffer_of(bytes(3000))
    assert is_zero(buffer, 0, 1000) and is_zero(buffer, 2999, 3000) and is_zero(buffer, 1500, 2500)
    for place in (1500, 1501, 2000, 2499):
        buffer.view[place] = 1
        assert not is_zero(buffer, 1500, 2500), place
        assert is_zero(buffer, 500, 1500) and is_zero(buffer, 2500, 3000)
        buffer.view[place] = 0
