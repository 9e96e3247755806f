"""Pages of a distant file: the bytes are right however they are asked for, and memory is bounded."""

import functools
import gc
import itertools
import random
import threading
import types
from concurrent.futures import ThreadPoolExecutor

import pytest

from blockdiff.place import ahead
from blockdiff.place.ahead import Begins, Kept, Pages, Parts, Shares
from blockdiff.place.listing import Entry
from blockdiff.place.object import Object


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
    pages = Pages(file.fetch, size, pool, Shares(150))
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
    pages = Pages(file.fetch, 2345, pool, Shares(150))
    pages.in_order()
    out = b"".join(pages.pread(step, at) for at in range(0, 2345, step))
    assert out == file.data
    assert sorted(file.asked) == [(at, min(50, 2345 - at)) for at in range(0, 2345, 50)]


@pytest.mark.parametrize("size", [1, 50, 51, 1234])
def test_what_is_kept_is_fetched_once_however_it_is_read(pool, size):
    file, shares = Distant(size), Shares(150)
    kept = Kept(file.fetch, size, pool, shares)
    assert file.asked == []
    file.fails = 1
    with pytest.raises(OSError, match="cut"):
        kept.pread(1, 0)
    file.asked.clear()
    chance = random.Random(size)
    reads = [(chance.randrange(1, 120), chance.randrange(size + 20)) for _ in range(50)]
    with ThreadPoolExecutor(4) as readers:
        for (length, offset), found in zip(reads, readers.map(lambda read: kept.pread(*read), reads), strict=True):
            assert found == file.data[offset : offset + length]
    assert len(file.asked) == len(set(file.asked)) and set(file.asked) <= {(at, min(50, size - at)) for at in range(0, size, 50)}
    assert shares.each == 150


def test_pages_are_fetched_ahead_only_while_reads_follow_each_other(pool):
    file = Distant(5000)
    pages = Pages(file.fetch, 5000, pool, Shares(200))
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
    pages = Pages(file.fetch, 5000, pool, Shares(200))
    assert pages.pread(4, 0) == file.data[:4] and file.asked == [(0, 4)]
    assert pages.pread(5, 0) == file.data[:5] and file.asked[1:] == [(0, 10)]
    assert pages.pread(40, 5) == file.data[5:45] and file.asked[2:] == [(5, 40)]


def test_what_failed_is_fetched_again(pool):
    file = Distant(100)
    pages = Pages(file.fetch, 100, pool, Shares(200))
    file.fails = 1
    with pytest.raises(OSError, match="cut"):
        pages.pread(10, 20)
    assert pages.pread(10, 20) == file.data[20:30]


def test_who_reads_in_order_has_the_next_pages_fetched_from_the_begin_on(pool):
    file = Distant(5000)
    pages = Pages(file.fetch, 5000, pool, Shares(200))
    pages.in_order()
    pages.pread(50, 0)
    pool.shutdown()
    assert {offset for offset, _ in file.asked} == {0, 50}


@pytest.mark.parametrize("seed", range(5))
def test_parts_are_right_and_little_else_is_fetched(pool, seed):
    chance, file, parts, at = random.Random(seed), Distant(8000), [], 0
    while at < 7500:
        length = chance.choice([1, 7, 30, 170])
        parts.append((at, length))
        at += length + chance.choice([0, 0, 5, 11, 40, 400])
    reader = Parts(file.fetch, iter(parts), 8000, pool, Shares(150))
    for offset, length in parts:
        assert reader.pread(length, offset) == file.data[offset : offset + length]
        assert sum(end - begin for begin, end, _ in reader._ranges) <= 170 + 150 + 50
    ranges = sorted(file.asked)
    assert all(length <= 50 for _, length in ranges)
    assert all(before[0] + before[1] <= after[0] for before, after in itertools.pairwise(ranges))
    wanted = sum(length for _, length in parts)
    gaps = sum(min(gap, 10) for gap in (b[0] - a[0] - a[1] for a, b in itertools.pairwise(parts)) if gap <= 10)
    assert wanted <= sum(length for _, length in ranges) <= wanted + gaps


def test_parts_that_overlap_are_fetched_once(pool):
    file = Distant(1000)
    reader = Parts(file.fetch, [(0, 30), (20, 30), (40, 30), (60, 5), (200, 10)], 1000, pool, Shares(500))
    for offset, length in ((0, 30), (20, 30), (40, 30), (60, 5), (200, 10)):
        assert reader.pread(length, offset) == file.data[offset : offset + length]
    assert sorted(file.asked) == [(0, 50), (50, 20), (200, 10)]


def test_a_part_that_fits_into_a_request_is_not_divided(pool):
    file, parts = Distant(1000), [(at, 20) for at in range(0, 200, 20)]
    reader = Parts(file.fetch, parts, 1000, pool, Shares(500))
    assert b"".join(reader.pread(length, offset) for offset, length in parts) == file.data[:200]
    assert sorted(file.asked) == [(at, 40) for at in range(0, 200, 40)]


def test_a_read_over_what_lies_between_two_parts(pool):
    file = Distant(1000)
    reader = Parts(file.fetch, [(0, 30), (100, 30)], 1000, pool, Shares(500))
    reader.pread(10, 0)
    assert reader.pread(120, 5) == file.data[5:125]


def test_what_was_not_expected_is_read_all_the_same(pool):
    file = Distant(1000)
    reader = Parts(file.fetch, [(0, 30), (500, 30), (10, 5), (2000, 9)], 1000, pool, Shares(500))
    for offset, length in ((500, 30), (0, 30), (100, 300), (990, 50), (1000, 5)):
        assert reader.pread(length, offset) == file.data[offset : offset + length]


@pytest.mark.parametrize("known", [True, False], ids=["parts", "pages"])
def test_who_read_at_the_same_time_share_what_is_fetched_ahead(pool, known):
    shares, files = Shares(400), [Distant(4000) for _ in range(10)]

    def reader(file):
        if known:
            return Parts(file.fetch, [(at, 10) for at in range(0, 4000, 10)], 4000, pool, shares)
        pages = Pages(file.fetch, 4000, pool, shares)
        pages.in_order()
        return pages

    def held(reader):
        return sum(end - begin for begin, end, _ in reader._ranges) if known else 50 * len(reader._pages)

    readers = [reader(file) for file in files]
    for at in range(0, 1000, 10):
        for each, file in zip(readers, files, strict=True):
            assert each.pread(10, at) == file.data[at : at + 10]
            assert held(each) <= (40 + 40 if known else 2 * 50)
    for each in readers[3:]:
        shares.leave(each)
    del readers[2], each
    for at in range(1000, 2000, 10):
        assert readers[0].pread(10, at) == files[0].data[at : at + 10]
        readers[1].pread(10, at)
    assert 400 // 2 - 50 < held(readers[0]) <= 400 // 2 + 2 * 50, held(readers[0])


@pytest.mark.parametrize("known", [True, False], ids=["parts", "pages"])
@pytest.mark.parametrize("closed", [True, False])
def test_an_object_that_is_read_no_more_has_no_share(pool, known, closed):
    file, store = Distant(40_000), types.SimpleNamespace(pool=pool, begins=Begins(pool, 0), shares=Shares(400))
    store.fetch = lambda name, entry, length, offset: file.fetch(length, offset)
    found = Object(store, "a", Entry(40_000, 0, "etag"))
    reader = found.again()
    reader.in_order()
    if known:
        reader.expect([(0, 40_000)])
    assert reader.pread(100, 0) == file.data[:100] and len(store.shares._readers) == 1
    gc.disable()
    try:
        if closed:
            reader.close()
        else:
            del reader
        assert len(store.shares._readers) == 0
    finally:
        gc.enable()


def test_of_parts_that_were_read_only_what_the_next_may_share_is_kept(pool):
    file = Distant(1000)
    reader = Parts(file.fetch, [(0, 300), (290, 50)], 1000, pool, Shares(10))
    assert reader.pread(300, 0) == file.data[:300]
    assert sum(end - begin for begin, end, _ in reader._ranges) <= 20
    assert reader.pread(50, 290) == file.data[290:340]
    assert sum(length for _, length in file.asked) == 340


def test_what_small_files_have_is_fetched_beforehand_and_side_by_side(pool):
    files = {name: Distant(size) for name, size in (("a", 20), ("b", 30), ("c", 60))}
    together = threading.Barrier(3)

    def fetch(name, length, offset):
        together.wait(10)
        return files[name].fetch(length, offset)

    begins = Begins(pool, 300)
    begins.expect((name, min(40, len(file.data)), functools.partial(fetch, name)) for name, file in files.items())
    for name, end in (("a", 20), ("b", 30), ("c", 40)):
        assert begins.of(name, end)[:end] == files[name].data[:end]
    assert begins.of("c", 41) is None and begins.of("d", 1) is None
    begins.expect([("a", 10, files["a"].fetch)])
    assert len(files["a"].asked) == 1


def test_what_is_kept_of_files_is_bounded(pool):
    files = [Distant(40) for _ in range(10)]
    begins = Begins(pool, 100)
    begins.expect((number, 40, file.fetch) for number, file in enumerate(files))
    assert begins.of(0, 40) and begins.of(1, 40) is None  # of too many only the first
    for number in range(10):
        begins.expect([(number, 40, files[number].fetch)])
        assert begins._bytes <= 100
    assert begins.of(9, 40) == files[9].data and begins.of(0, 40) is None


def test_what_could_not_be_fetched_beforehand_is_said_once_and_then_fetched(pool):
    file = Distant(40)
    file.fails = 1
    begins = Begins(pool, 100)
    begins.expect([("a", 40, file.fetch)])
    with pytest.raises(OSError, match="cut"):
        begins.of("a", 40)
    assert begins.of("a", 40) is None
