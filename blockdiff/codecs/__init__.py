"""Compression of diff files, one member at a time.

A diff file is a sequence of members, each compressed on its own: gzip members or Zstandard
frames.  `gunzip` and `zstd -d` read such a file as one stream.  blockdiff compresses and
decompresses many members at once and can read each one without the others.  The original's files
are one long member; they are read as a stream.  Every output is bounded before memory is allocated.
Format: blockdiff-formats(5), "Members".
"""

from blockdiff.codecs.base import Codec
from blockdiff.codecs.gzip import Gzip
from blockdiff.codecs.lzop import Lzop, LzopWriter
from blockdiff.codecs.plain import Plain
from blockdiff.codecs.zstd import Zstd

__all__ = [
    "BY_SUFFIX", "GZIP", "LZOP", "PLAIN", "ZSTD", "Codec", "LzopWriter", "Plain", "Zstd",
]  # fmt: skip

PLAIN, GZIP, ZSTD, LZOP = Plain(), Gzip(), Zstd(), Lzop()
BY_SUFFIX: dict[str, Codec] = {codec.suffix: codec for codec in (PLAIN, GZIP, ZSTD, LZOP)}
