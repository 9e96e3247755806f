"""Jobs done by a pool of threads, with the results in order and memory bounded.

The memory of a job is counted in bytes.  The bytes in flight have a limit that does not
depend on the number of threads.  What the iterator of jobs raises is raised after the
results of all jobs before it.
"""

import collections
import contextlib
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Executor, Future, wait
from typing import Protocol, TypeVar

IN_FLIGHT = 24 * 1024 * 1024  # bytes of jobs that are queued or running, plus one job
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
        """Bytes of memory that it takes while it is worked on; 0: done at once, in the calling thread."""


J = TypeVar("J", bound=Job)
R = TypeVar("R")


def in_order(pool: Executor, jobs: Iterator[J], work: Callable[[J], R]) -> Generator[tuple[J, R], None, None]:
    """Yield each job with its result, in the order of the jobs.

    Raises what `work` raised, and what `jobs` raised once all results before it were yielded.
    Close it: then `jobs` is closed and no job is running any more.
    """
    waiting: collections.deque[tuple[J, Future[R]]] = collections.deque()
    in_flight = 0
    end: Exception | None = None
    try:
        while True:
            while end is None and (not waiting or (in_flight < IN_FLIGHT and len(waiting) < _MOST_JOBS)):
                try:
                    job = next(jobs)
                except Exception as error:  # StopIteration, too
                    end = error
                    break
                future: Future[R]
                if job.cost:
                    in_flight += job.cost
                    future = pool.submit(work, job)
                else:
                    future = Future()
                    future.set_result(work(job))
                waiting.append((job, future))
            if not waiting:
                break
            job, future = waiting.popleft()
            result = future.result()
            in_flight -= job.cost
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
