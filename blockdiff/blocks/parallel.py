"""A row of jobs worked on by a pool of threads, with the results in order and memory bounded.

What a job holds is counted in bytes; so many bytes are in flight and no more, however
many threads there are.  What the source of the jobs raises comes after the results of
all jobs before it.
"""

import collections
import contextlib
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Executor, Future, wait
from typing import Protocol, TypeVar

IN_FLIGHT = 24 * 1024 * 1024  # bytes of jobs that wait or are worked on, and one job more
_MOST_JOBS = 512

# It is given the bytes to come, and gives a function that takes the bytes that are done.
Progress = Callable[[int], contextlib.AbstractContextManager[Callable[[int], object]]]


def silent(total_bytes: int) -> contextlib.AbstractContextManager[Callable[[int], object]]:
    """Show no progress."""
    return contextlib.nullcontext(lambda done_bytes: None)


class Job(Protocol):
    """Something to work on."""

    @property
    def cost(self) -> int:
        """Bytes of memory that it takes while it is worked on; 0: it is quicker done than handed over."""


J = TypeVar("J", bound=Job)
R = TypeVar("R")


def in_order(pool: Executor, jobs: Iterator[J], work: Callable[[J], R]) -> Generator[tuple[J, R], None, None]:
    """Yield each job with its result, in the order of the jobs.

    Raises what `work` raised, and what `jobs` raised once all results before it were yielded.
    Close it: then `jobs` is closed and no job is running any more.
    """
    waiting: collections.deque[tuple[J, Future[R]]] = collections.deque()
    held = 0
    end: Exception | None = None
    try:
        while True:
            while end is None and (not waiting or (held < IN_FLIGHT and len(waiting) < _MOST_JOBS)):
                try:
                    job = next(jobs)
                except Exception as error:  # StopIteration, too
                    end = error
                    break
                future: Future[R]
                if job.cost:
                    held += job.cost
                    future = pool.submit(work, job)
                else:
                    future = Future()
                    future.set_result(work(job))
                waiting.append((job, future))
            if not waiting:
                break
            job, future = waiting.popleft()
            result = future.result()
            held -= job.cost
            yield job, result
        if not isinstance(end, StopIteration) and end is not None:
            raise end
    finally:
        for _, future in waiting:
            future.cancel()
        wait([future for _, future in waiting])
        close = getattr(jobs, "close", None)
        if close is not None:
            close()
