"""Which pages of a file are in memory, and how to have just some of them there."""

import ctypes
import os
import random
import subprocess

PAGE = os.sysconf("SC_PAGESIZE")
MIB = 1 << 20
SIZE = 24 * MIB + 3 * PAGE + 100


def resident(path):
    """Which pages of a file are in memory."""
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    library.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    library.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
    fd = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(fd).st_size
        found = ctypes.create_string_buffer(-(-size // PAGE))
        base = library.mmap(None, size, 1, 1, fd, 0)
        assert library.mincore(base, size, found) == 0
        library.munmap(base, size)
    finally:
        os.close(fd)
    return {number for number, byte in enumerate(found.raw) if byte & 1}


def cold_file(path):
    """Write a file on a disk of which nothing is in memory; returns whether that can be."""
    path.write_bytes(random.Random(5).randbytes(SIZE))
    subprocess.run(["sync", path], check=True)
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)
    return not resident(path)


def warm(path, runs):
    """Have these bytes in memory, and none beside them."""
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    for start, length in runs:
        os.pread(fd, length, start)
    os.close(fd)
