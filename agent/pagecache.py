"""Keep the page cache of the host as it was: fetch pages ahead, and drop them after use.

A backup reads everything once.  By itself the kernel would keep these pages, and drop those
that production needs again.  So for every extent the kernel is first asked which pages are in
memory: they stay; the others are fetched, and dropped after they were read.  The kernel's own
read-ahead is turned off, since its pages would look like those of production.
"""

import os
import re

try:
    import ctypes
except ImportError:  # a python built without it
    ctypes = None

_PAGE = os.sysconf("SC_PAGESIZE")  # bytes
_STEP = 128 * 1024  # bytes; the kernel may shorten a longer request to this
_MISSING = re.compile(b"\0+")
_MAP_SHARED, _PROT_NONE = 1, 0


class PageCache:
    """The pages of one file or device."""

    def __init__(self, fd, size):
        """`size` in bytes; if the kernel does not report which pages are in memory, no page is dropped."""
        self._fd = fd
        self._base = None
        self._border = -1  # last page that was fetched before; the next bytes may begin in it
        if not size or ctypes is None or not hasattr(os, "posix_fadvise"):
            return
        library = ctypes.CDLL(None, use_errno=True)
        library.mmap.restype = ctypes.c_void_p
        library.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
        library.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        self._size, self._munmap = size, library.munmap
        self._mincore = library.mincore
        self._mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
        if size >= 1 << (8 * ctypes.sizeof(ctypes.c_long) - 1):
            return
        base = library.mmap(None, size, _PROT_NONE, _MAP_SHARED, fd, 0)  # never read, only for mincore
        if base is None or base == ctypes.c_void_p(-1).value:
            return
        self._base = base
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)

    def close(self):
        """Release the file: a snapshot that is mapped cannot be removed."""
        if self._base is not None:
            self._munmap(self._base, self._size)
            self._base = None

    def fetch(self, offset, length):
        """Fetch those of these bytes that are not in memory; returns them for `drop`: [(offset, length), ...]."""
        if self._base is None:
            return []
        first, last = offset // _PAGE, (offset + length - 1) // _PAGE
        pages = ctypes.create_string_buffer(last - first + 1)
        if self._mincore(self._base + first * _PAGE, len(pages) * _PAGE, pages) != 0:
            return []
        there = pages.raw
        if first == self._border:
            there = b"\0" + there[1:]
        self._border = last if there[-1] == 0 else -1
        runs = ((run.start(), run.end()) for run in _MISSING.finditer(there))
        missing = [((first + start) * _PAGE, (end - start) * _PAGE) for start, end in runs]
        for start, size in missing:
            for place in range(start, start + size, _STEP):
                os.posix_fadvise(self._fd, place, min(_STEP, start + size - place), os.POSIX_FADV_WILLNEED)
        return missing

    def drop(self, missing):
        """Drop what `fetch` returned."""
        for start, size in missing:
            os.posix_fadvise(self._fd, start, size, os.POSIX_FADV_DONTNEED)
