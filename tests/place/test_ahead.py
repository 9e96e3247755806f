"""Pages of a distant file: the bytes are right however they are asked for, and memory is bounded."""

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from blockdiff.place import ahead
from blockdiff.place.ahead import Pages


@pytest.fixture
def pool():
    with ThreadPoolExecutor(3) as pool:
        yield pool


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(ahead, "FIRST", 4)
    monkeypatch.setattr(ahead, "SMALL", 10)
    monkeypatch.setattr(ahead, "LARGE", 50)
    monkeypatch.setattr(ahead, "WHOLE", 0)
    monkeypatch.setattr(ahead, "_KEPT", 3)


class Distant:
    """A file that notes what is fetched of it."""

    def __init__(self, size):
        self.data = random.Random(size).randbytes(size)
        self.asked = []
        self.fails = 0

    def fetch(self, length, offset):
        self.asked.append((offset, length))
        if self.fails:
            self.fails -= 1
            raise OSError("cut")
        assert length > 0 and offset + length <= len(self.data)
        return self.data[offset : offset + length]


@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 49, 50, 51, 500, 1234])
@pytest.mark.parametrize("ordered", [False, True])
def test_any_bytes_are_right(pool, size, ordered):
    file = Distant(size)
    pages = Pages(file.fetch, size, pool, 150)
    if ordered:
        pages.in_order()
    chance = random.Random(size)
    for _ in range(300):
        offset, length = chance.randrange(size + 20), chance.randrange(1, 120)
        assert pages.pread(length, offset) == file.data[offset : offset + length]
        most = 150 // 50 + 2 if ordered else 3
        assert len(pages._pages) <= most


@pytest.mark.parametrize("step", [1, 7, 50, 64, 333])
def test_who_reads_in_order_gets_all_and_each_page_is_fetched_once(pool, step):
    file = Distant(2345)
    pages = Pages(file.fetch, 2345, pool, 150)
    pages.in_order()
    out = b"".join(pages.pread(step, at) for at in range(0, 2345, step))
    assert out == file.data
    assert sorted(file.asked) == [(at, min(50, 2345 - at)) for at in range(0, 2345, 50)]


def test_pages_are_fetched_ahead_only_while_reads_follow_each_other(pool):
    file = Distant(5000)
    pages = Pages(file.fetch, 5000, pool, 200)
    pages.in_order()
    pages.pread(50, 1000)
    assert len(file.asked) == 1
    pages.pread(50, 3000)
    assert len(file.asked) == 2
    for at in range(3050, 3400, 50):
        pages.pread(50, at)
    pool.shutdown()
    assert {offset for offset, _ in file.asked[2:]} == set(range(3050, 3600, 50))


def test_the_first_bytes_alone_are_not_a_page(pool):
    file = Distant(5000)
    pages = Pages(file.fetch, 5000, pool, 200)
    assert pages.pread(4, 0) == file.data[:4] and file.asked == [(0, 4)]
    assert pages.pread(5, 0) == file.data[:5] and file.asked[1:] == [(0, 10)]
    assert pages.pread(40, 5) == file.data[5:45] and file.asked[2:] == [(5, 40)]


def test_what_failed_is_fetched_again(pool):
    file = Distant(100)
    pages = Pages(file.fetch, 100, pool, 200)
    file.fails = 1
    with pytest.raises(OSError, match="cut"):
        pages.pread(10, 20)
    assert pages.pread(10, 20) == file.data[20:30]
