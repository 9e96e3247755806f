"""A row of jobs: results in order, memory bounded, and everything closed at the end."""

import concurrent.futures
import functools

import pytest

from blockdiff.blocks import parallel
from blockdiff.formats import TornError


class Job:
    def __init__(self, number, cost=1):
        self.number, self.cost = number, cost


def test_results_come_in_order_and_what_the_source_raises_comes_last():
    def jobs():
        for number in range(50):
            yield Job(number, number % 3)
        raise TornError("here it ends")

    got = []
    with concurrent.futures.ThreadPoolExecutor(4) as pool, pytest.raises(TornError):
        for job, result in parallel.in_order(pool, jobs(), lambda job: job.number * 2):
            got.append((job.number, result))

    assert got == [(number, number * 2) for number in range(50)]


def test_what_is_in_flight_is_bounded_by_bytes():
    taken = 0

    def jobs():
        nonlocal taken
        for number in range(100):
            taken += 1
            yield Job(number, parallel.IN_FLIGHT // 4)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        rows = parallel.in_order(pool, jobs(), lambda job: None)
        next(rows)
        assert taken <= 5
        rows.close()
    assert taken <= 5


def test_a_closed_pipeline_closes_its_source():
    closed = []

    def jobs():
        try:
            while True:
                yield Job(0)
        finally:
            closed.append(True)

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        rows = parallel.in_order(pool, jobs(), functools.partial(lambda job: None))
        next(rows)
        rows.close()

    assert closed == [True]
