import functools
import threading

import pytest
from threads import in_thread

from blockdiff.blocks.membercache import MemberCache


class Item:
    def __init__(self, cost):
        self.cost = cost


def never():
    raise AssertionError("it is kept")


def test_what_was_used_last_is_kept():
    cache = MemberCache(30)
    items = {key: cache.get(key, 10, lambda: Item(10)) for key in "abc"}
    assert cache.get("a", 10, never) is items["a"]
    cache.get("d", 10, lambda: Item(10))
    assert [cache.get(key, 10, never) for key in "cad"][:2] == [items["c"], items["a"]]
    assert cache.get("b", 10, lambda: Item(10)) is not items["b"]
    assert cache.used == 30


def test_what_is_under_way_counts():
    cache = MemberCache(100)
    cache.get("a", 10, lambda: Item(60))
    seen = []

    def load():
        seen.append(cache.used)
        return Item(10)

    cache.get("b", 50, load)  # 60 + 50 are too much
    assert seen == [50]
    assert cache.used == 10


def test_one_that_is_too_large_is_given_and_not_kept():
    cache = MemberCache(10)
    assert cache.get("a", 50, lambda: Item(40)).cost == 40
    assert cache.used == 0
    with pytest.raises(AssertionError):
        cache.get("a", 50, never)


def test_a_failure_leaves_nothing():
    cache = MemberCache(10)
    for _ in range(2):
        with pytest.raises(AssertionError):
            cache.get("a", 5, never)
    assert cache.used == 0
    assert cache.get("a", 5, lambda: Item(5)).cost == 5


def test_only_one_thread_loads_a_member_and_others_wait_for_room():
    cache = MemberCache(25)
    lock, begun, go = threading.Lock(), threading.Barrier(3), threading.Event()
    loads, most, found = [], [0], []

    def load(key):
        with lock:
            loads.append(key)
            most[0] = max(most[0], cache.used)
        if len(loads) <= 2:
            begun.wait(30)
        assert go.wait(30)
        return Item(10)

    def ask(key):
        found.append((key, cache.get(key, 10, lambda: load(key))))

    workers = [in_thread(functools.partial(ask, key))[0] for key in "aabbccdd"]
    begun.wait(30)  # two load; a third has no room before one of them ends
    assert len(loads) == 2
    go.set()
    for worker in workers:
        worker.join(30)
    assert len(found) == 8
    assert most[0] <= 25
    # those that asked while it was loaded got the same one, kept or not
    assert cache.used <= 25


def test_one_that_is_not_kept_is_given_to_those_who_wait_for_it():
    cache = MemberCache(5)
    waiting, loading, go = threading.Event(), threading.Event(), threading.Event()
    loads = []

    def load():
        loads.append(1)
        loading.set()
        assert go.wait(30)
        return Item(10)

    first, one = in_thread(lambda: cache.get("a", 10, load))
    assert loading.wait(30)
    inner = cache._loading["a"].ended.wait

    def wait():
        waiting.set()
        return inner()

    cache._loading["a"].ended.wait = wait
    second, two = in_thread(lambda: cache.get("a", 10, load))
    assert waiting.wait(30)
    assert not cache._changed._waiters  # another member that ends does not wake it
    go.set()
    first.join(30)
    second.join(30)
    assert one == two
    assert len(loads) == 1
