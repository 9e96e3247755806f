"""Chains for tests, without an agent: the real store, codecs, index and manifest, and a volume in memory.

`write_version` writes what a backup of ours would have written, or, with `original`,
what the original tool would have: one plain, gzip or lzop stream, digests, no manifest.
"""

import gzip
import hashlib
import os
import subprocess

from blockdiff import codecs
from blockdiff.blocks.diffreader import DiffFile
from blockdiff.formats import difffile, digestfile, index, manifest
from blockdiff.sets import publishing, versions
from blockdiff.sets.backupset import BackupSet

LONG = 4  # so many zero blocks in a row make a member of their own where the codec can


def md5(block):
    return hashlib.md5(block, usedforsecurity=False).digest()


def blocks_of(volume, block_size):
    """The blocks of a volume, in order."""
    return [volume[place : place + block_size] for place in range(0, len(volume), block_size)]


def parent_digests(backup_set, number, block_size):
    """The digests of version `number`, None if there is none of this block size."""
    try:
        with open(backup_set.path(number, ".md5"), "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return None
    if digestfile.decode_header(data[:4]) != block_size:
        return None
    return [data[place : place + 16] for place in range(4, len(data), 16)]


def changed_of(blocks, digests, before):
    """The indexes of the blocks that a version must hold."""
    if before is None:
        return list(range(len(blocks)))
    known = len(before)
    return [i for i, digest in enumerate(digests) if i >= known or digest != before[i]]


def write_version(
    backup_set,
    volume,
    block_size=65536,
    codec=codecs.GZIP,
    *,
    full=False,
    original=False,
    member=64 * 1024,
    with_index=True,
    begun=None,
    moment=None,
    signing=None,
):
    """Write the next version of a set and return its number."""
    number = backup_set.newest() + 1
    blocks = blocks_of(volume, block_size)
    digests = [md5(block) for block in blocks]
    before = None if full or number == 1 else parent_digests(backup_set, number - 1, block_size)
    changed = changed_of(blocks, digests, before)
    if original:
        _write_original(backup_set, number, blocks, digests, changed, block_size, codec)
    else:
        _write_ours(
            backup_set, number, len(volume), blocks, digests, changed, block_size, codec, before, member, with_index,
            begun, moment, signing,
        )  # fmt: skip
    return number


def payload_of(blocks, changed, block_size):
    """The payload of a diff file, uncompressed."""
    out = [difffile.encode_header(block_size)]
    for i in changed:
        out += [difffile.encode_offset(i * block_size), blocks[i]]
    return b"".join(out)


def _write_original(backup_set, number, blocks, digests, changed, block_size, codec):
    payload = payload_of(blocks, changed, block_size)
    if codec.suffix == ".gz":
        payload = gzip.compress(payload, 6, mtime=0)
    elif codec.suffix == ".lzop":
        payload = subprocess.run(["lzop", "-c"], input=payload, stdout=subprocess.PIPE, check=True).stdout
    else:
        assert codec.suffix == "", "the original knows no other"
    for suffix, data in ((codec.suffix, payload), (".md5", digestfile.encode_header(block_size) + b"".join(digests))):
        with open(backup_set.path(number, suffix), "wb") as file:
            file.write(data)
    with open(os.path.join(backup_set.folder, backup_set.base + ".ver"), "wb") as file:
        file.write(b"%d\n" % number)


def members_of(blocks, changed, block_size, codec, most):
    """Yield (bytes, payload length, first block, last block) of each member; the first is the header alone."""
    header = difffile.encode_header(block_size)
    yield codec.compress(header), len(header), 0, 0
    zero = bytes(block_size)
    rows, length, first, last = [], 0, 0, 0

    def member():
        return codec.compress(b"".join(rows), 8 + block_size), length, first, last

    place = 0
    while place < len(changed):
        i = changed[place]
        count = 0
        while place + count < len(changed) and changed[place + count] == i + count and blocks[i + count] == zero:
            count += 1
        zeros = codec.zeros(i, block_size, count) if count >= LONG else None
        if zeros is not None:
            if rows:
                yield member()
            yield zeros, count * (8 + block_size), i, i + count - 1
            rows, length = [], 0
            place += count
            continue
        rows.append(difffile.encode_offset(i * block_size) + blocks[i])
        length += len(rows[-1])
        first, last = (i if len(rows) == 1 else first), i
        place += 1
        if length >= most:
            yield member()
            rows, length = [], 0
    if rows:
        yield member()


def _write_ours(
    backup_set, number, size, blocks, digests, changed, block_size, codec, before, most, with_index, begun, moment, signing
):
    suffixes = [codec.suffix, ".md5", ".xxh128"] + (
        [".idx"] if with_index and codec.suffix in (".gz", ".zst") else []
    )
    parts = {suffix: backup_set.part(number, suffix) for suffix in suffixes}
    try:
        place = payload = 0
        entries = []
        for data, length, first, last in members_of(blocks, changed, block_size, codec, most):
            entries.append(index.Member(place, payload, first, last))
            parts[codec.suffix].write(data)
            place += len(data)
            payload += length
        if ".idx" in parts:
            parts[".idx"].write(index.encode_header(block_size))
            for entry in [*entries, index.Member(place, payload, 0, 0)]:
                parts[".idx"].write(index.encode(entry))
        parts[".md5"].write(digestfile.encode_header(block_size) + b"".join(digests))
        import xxhash

        fast = b"".join(xxhash.xxh3_128_digest(block) for block in blocks)
        parts[".xxh128"].write(digestfile.encode_header(block_size) + fast)
        for part in parts.values():
            part.close()
        full = before is None
        publishing.publish(
            backup_set,
            number,
            parts,
            manifest.NewManifest(
                blockdiff="0",
                set=backup_set.base,
                version=number,
                parent=None if full else number - 1,
                parent_md5_sha256=None if full else backup_set.hash(number - 1, ".md5").sha256,
                begun=begun or f"2026-01-{number % 28 + 1:02}T01:00:00Z",
                ended=begun or f"2026-01-{number % 28 + 1:02}T01:02:03Z",
                source=manifest.Source("localhost", "/vol", "file", size, None),
                block_size=block_size,
                blocks=manifest.Blocks(len(blocks), len(changed), zero=0),
                bytes=manifest.Transfer(read=size, payload=payload, wire=payload),
                moment=moment,
            ),
            signing=signing,
        )
    finally:
        for part in parts.values():
            part.discard()


def records_of(backup_set, number):
    """The records of a version's diff file, {block: data}; it is plain or gzip, and read by hand."""
    for suffix, opened in (("", open), (".gz", gzip.open)):
        if os.path.exists(backup_set.path(number, suffix)):
            with opened(backup_set.path(number, suffix), "rb") as file:
                data = file.read()
            step = int.from_bytes(data[:4], "little")
            rows = (data[place : place + 8 + step] for place in range(4, len(data), 8 + step))
            return suffix, {int.from_bytes(row[:8], "little") // step: row[8:] for row in rows}
    raise FileNotFoundError(backup_set.path(number, ""))


def rewrite(backup_set, number, onto, union_of):
    """Make a version's diff file anew as the union of these versions' records; its parent is then `onto`."""
    sheet = backup_set.read_manifest(number)
    union = {}
    for each in sorted(union_of):
        union |= records_of(backup_set, each)[1]
    union = {block: data for block, data in union.items() if block < sheet.value["blocks"]["total"]}
    suffix = records_of(backup_set, number)[0]
    data = sheet.block_size.to_bytes(4, "little")
    data += b"".join((i * sheet.block_size).to_bytes(8, "little") + union[i] for i in sorted(union))
    data = gzip.compress(data, mtime=0) if suffix else data
    with open(backup_set.path(number, suffix), "wb") as file:
        file.write(data)
    if ".idx" in sheet.files:
        os.unlink(backup_set.path(number, ".idx"))
    files = {key: entry for key, entry in sheet.value["files"].items() if key != ".idx"}
    files[suffix] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    value = sheet.value | {"parent": onto, "kind": "full" if onto is None else "incremental", "files": files}
    value["format"] = 1 if onto in (None, number - 1) else 2
    value["parent_md5_sha256"] = None if onto is None else backup_set.hash(onto, ".md5").sha256
    value["rewritten"] = {
        "at": "2026-02-01T00:00:00Z", "blockdiff": "0", "kind": sheet.kind, "parent": sheet.parent,
        "versions": [min(union_of), number], "bytes_read": 0,
    }  # fmt: skip
    with open(backup_set.path(number, ".json"), "wb") as file:
        file.write(manifest.encode(value))


def drop(backup_set, number):
    """Remove every file of a version."""
    for suffix in backup_set.listing().versions[number]:
        os.unlink(backup_set.path(number, suffix))


def spans_of(backup_set, number, block_size):
    """The members that the index of a version names, in order."""
    with open(backup_set.path(number, ".idx"), "rb") as file:
        return list(index.spans(file.read, os.fstat(file.fileno()).st_size, block_size))


def new_set(folder, base="vol"):
    """A set that has not begun, in a folder that there is."""
    return BackupSet(os.path.join(folder, base))


def random_set(folder, versions, block_size, *, blocks=10, base="vol"):
    """Return a new set of so many versions, each of random blocks."""
    backup_set = new_set(folder, base)
    for _ in range(versions):
        write_version(backup_set, os.urandom(blocks * block_size), block_size)
    return backup_set


def files_of(backup_set, number=1):
    """A version's files, as a restore has them."""
    return versions.files_of(backup_set, versions.version(backup_set, number, backup_set.listing()))


def diff_file(backup_set, number=1):
    """A version's diff file, open for reading, with its index where that counts."""
    files = files_of(backup_set, number)
    return DiffFile(files.diff, files.index, files.version)
