"""Digests, compression and zero tests by libraries of the host: libxxhash and libzstd through ctypes.

Nothing is installed: if the host lacks a library, hashlib and zlib are used instead.  All of them
release the interpreter's lock, so that threads work in parallel.
"""

import hashlib
import struct
import zlib

from blockdiff.wire import messages

try:
    import ctypes
except ImportError:  # a python built without it
    ctypes = None

_ZSTD_LEVEL = 1
_ZLIB_LEVEL = 1
_QUICK = 128 * 1024  # bytes; XXH3 needs no longer for them than releasing the interpreter's lock takes
_PAIR = struct.Struct(">QQ")


def _library(name, *functions, quick=False):
    """Load a library by its exact name; to search for it would start programs.

    `quick`: keep the interpreter's lock, for functions that end before another thread could use it.
    """
    if ctypes is None:
        return None
    try:
        library = (getattr(ctypes, "PyDLL", ctypes.CDLL) if quick else ctypes.CDLL)(name)  # pypy has no such lock
        for function in functions:
            getattr(library, function)
    except (OSError, AttributeError):
        return None
    return library


def _md5(data=b""):
    try:
        return hashlib.md5(data, usedforsecurity=False)
    except TypeError:  # before python 3.9
        return hashlib.md5(data)


class Buffer:
    """Memory to read into, with an address for native code."""

    def __init__(self, memory, place, size):
        """Use `size` bytes of memory (writable) from `place` on."""
        self.place = place
        self.view = memoryview(memory)[place : place + size]
        self.address = 0
        if ctypes is not None:
            self._anchor = (ctypes.c_char * size).from_buffer(memory, place)
            self.address = ctypes.addressof(self._anchor)


class Md5:
    """MD5 of blocks."""

    name = "md5"

    def digest(self, data):
        """Return the digest of bytes."""
        return _md5(data).digest()

    def digests(self, buffer, length, block_size):
        """Return the digests of the blocks in a buffer's first length bytes, joined."""
        view = buffer.view
        return b"".join(
            _md5(view[start : min(start + block_size, length)]).digest() for start in range(0, length, block_size)
        )


class Xxh128:
    """XXH3-128 of blocks, in canonical (big-endian) form, by the host's libxxhash."""

    name = "xxh128"

    def __init__(self, library, quick):
        class Hash(ctypes.Structure):
            _fields_ = (("low", ctypes.c_uint64), ("high", ctypes.c_uint64))

        self._function, self._quick = library.XXH3_128bits, quick.XXH3_128bits
        for function in (self._function, self._quick):
            function.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
            function.restype = Hash

    def digest(self, data):
        """Return the digest of bytes."""
        memory = ctypes.create_string_buffer(bytes(data), len(data))
        found = self._function(ctypes.addressof(memory), len(data))
        return _PAIR.pack(found.high, found.low)

    def digests(self, buffer, length, block_size):
        """Return the digests of the blocks in a buffer's first length bytes, joined."""
        function = self._quick if block_size <= _QUICK else self._function
        address = buffer.address
        out = bytearray((length + block_size - 1) // block_size * 16)
        place = 0
        for start in range(0, length, block_size):
            found = function(address + start, min(block_size, length - start))
            _PAIR.pack_into(out, place, found.high, found.low)
            place += 16
        return bytes(out)


class Zstd:
    """Compress by the host's libzstd; each thread needs an object of its own."""

    name = "zstd"
    code = messages.ZSTD
    pays_below = 128 * 1024 * 1024  # bytes per second of the wire; a gigabit network carries less

    def __init__(self, library):
        self._library = library
        library.ZSTD_compressBound.restype = ctypes.c_size_t
        library.ZSTD_compressBound.argtypes = [ctypes.c_size_t]
        library.ZSTD_createCCtx.restype = ctypes.c_void_p
        library.ZSTD_compressCCtx.restype = ctypes.c_size_t
        library.ZSTD_compressCCtx.argtypes = [
            ctypes.c_void_p,
            ctypes.c_void_p,
            ctypes.c_size_t,
            ctypes.c_void_p,
            ctypes.c_size_t,
            ctypes.c_int,
        ]
        library.ZSTD_isError.argtypes = [ctypes.c_size_t]
        library.ZSTD_isError.restype = ctypes.c_uint
        self._context = library.ZSTD_createCCtx()
        self._room = library.ZSTD_compressBound(messages.MAX_DATA)
        self._out = ctypes.create_string_buffer(self._room)

    def compress(self, data):
        """Return data (at most MAX_DATA bytes, writable memory) compressed, None if that failed."""
        source = (ctypes.c_char * len(data)).from_buffer(data)
        size = self._library.ZSTD_compressCCtx(
            self._context, self._out, self._room, ctypes.addressof(source), len(data), _ZSTD_LEVEL
        )
        if self._library.ZSTD_isError(size):
            return None
        return ctypes.string_at(self._out, size)


class Zlib:
    """Compress by python's own zlib."""

    name = "zlib"
    code = messages.ZLIB
    pays_below = 32 * 1024 * 1024  # bytes per second of the wire; it compresses no more than 60 MiB per second

    def compress(self, data):
        """Return data compressed."""
        return zlib.compress(data, _ZLIB_LEVEL)


def digester(name):
    """Return the digester of this name; None where the host lacks its library."""
    if name == "md5":
        return Md5()
    libraries = [_library("libxxhash.so.0", "XXH3_128bits", quick=quick) for quick in (False, True)]
    return Xxh128(*libraries) if all(libraries) else None


def compressor():
    """Return a new compressor, the best that this host has."""
    library = _library("libzstd.so.1", "ZSTD_compressBound", "ZSTD_createCCtx", "ZSTD_compressCCtx", "ZSTD_isError")
    return Zstd(library) if library is not None else Zlib()


class ZeroTest:
    """Return whether memory is all zero, at the speed of memcmp."""

    def __init__(self, size):
        self._zeros = bytes(size)
        self._memcmp = None
        if ctypes is not None:
            self._memcmp = ctypes.CDLL(None).memcmp
            self._memcmp.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]

    def __call__(self, buffer, start, end):
        """Return whether bytes start to end of a buffer, at most `size`, are zero."""
        view = buffer.view
        if view[start] or view[end - 1]:
            return False
        if self._memcmp is not None:
            return self._memcmp(buffer.address + start, self._zeros, end - start) == 0
        return view[start:end].tobytes() == self._zeros[: end - start]
