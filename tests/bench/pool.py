"""What the default format costs at the very least: MD5 of each block, gzip by isal, SHA-256 of the outcome.

A program with as many threads as cores and nothing else to do; zero blocks are left out,
and nothing is proved, sent or synced.
"""

import hashlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor

from isal import isal_zlib

from blockdiff.blocks.md5many import md5_many

_MEMBER, _BLOCK = 4 * 1024 * 1024, 64 * 1024  # bytes
_ZEROS = bytes(_BLOCK)


def work(fd: int, start: int) -> bytes:
    """Return the gzip member of the blocks from `start` (bytes) on."""
    data = memoryview(os.pread(fd, _MEMBER, start))
    blocks = [data[place : place + _BLOCK] for place in range(0, len(data), _BLOCK)]
    blocks = [block for block in blocks if block != _ZEROS[: len(block)]]
    payload = b"".join(blocks)
    md5_many(payload, _BLOCK, _BLOCK, len(payload) // _BLOCK)
    return isal_zlib.compress(payload, 1, 31)


def main() -> None:
    """pool.py VOLUME OUT."""
    fd = os.open(sys.argv[1], os.O_RDONLY)
    known = hashlib.sha256()
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool, open(sys.argv[2], "wb") as out:
        for member in pool.map(lambda start: work(fd, start), range(0, os.path.getsize(sys.argv[1]), _MEMBER)):
            known.update(member)
            out.write(member)


if __name__ == "__main__":
    main()
