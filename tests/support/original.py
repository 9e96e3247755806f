"""What the program of 2010 makes of a set: it merges the files of versions 1 to N, one after the other.

It reads nothing but diff files, all of each one, and writes every record at its offset.  A file that
is missing fails that step, and the loop goes on.  Written from blockdiff-formats(5), "Diff file", and
without our readers.
"""

import gzip
import io
import os
import struct
import subprocess

import zstandard


def unpacked(path, suffix):
    """The payload of a diff file."""
    with open(path, "rb") as file:
        data = file.read()
    if suffix == ".gz":
        return gzip.decompress(data)
    if suffix == ".lzop":
        return subprocess.run(["lzop", "-dc"], input=data, stdout=subprocess.PIPE, check=True).stdout
    if suffix == ".zst":  # it knows no such files; with zstd -dc before it, it merges them all the same
        with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True) as reader:
            return reader.read()
    return data


def patch(target, payload):
    """Write every record of a payload at its offset."""
    (block_size,) = struct.unpack_from("<I", payload)
    place = 4
    while place < len(payload):
        (offset,) = struct.unpack_from("<Q", payload, place)
        block = payload[place + 8 : place + 8 + block_size]
        place += 8 + len(block)
        target += bytes(max(0, offset + len(block) - len(target)))
        target[offset : offset + len(block)] = block


def merged(name, number):
    """Return what a loop over versions 1 to `number` writes into a new target; it never gets shorter."""
    target = bytearray()
    for step in range(1, number + 1):
        found = [suffix for suffix in ("", ".gz", ".lzop", ".zst") if os.path.exists(f"{name}.{step}{suffix}")]
        if found:  # else "No such file" and exit code 255 of this step
            patch(target, unpacked(f"{name}.{step}{found[0]}", found[0]))
    return target
