"""Any bytes of any version: what a restore writes, or an error; never others."""

import collections
import os
import random
import shutil
import threading

import chains
import limits
import pytest
from memory import peak_below
from nights import state
from oversized import VECTORS, volume_of
from rewrites import changed, rewrite

from blockdiff import codecs, restore
from blockdiff.blocks import directory, image, membercache, owners, storedblocks
from blockdiff.blocks.membercache import MemberCache
from blockdiff.codecs import base
from blockdiff.errors import BlockdiffError, ChainBroken, DamagedFile, DigestMismatch, NoSuchVersion, NotOurFormat
from blockdiff.formats import manifest
from blockdiff.sets import chain
from blockdiff.sets.backupset import BackupSet

SUFFIXES = ["", ".gz", ".zst"] + ([".lzop"] if shutil.which("lzop") else [])
BLOCK = 16
MOST = 400  # bytes of payload that are decompressed at once
TINY = {
    owners: {"_BLOCKS": 7, "_WINDOWS": 2},
    storedblocks: {"_PIECE": 40},
    directory: {"_PAGE": 2, "_RECENT": 2},
    image: {"_TOGETHER": 3},
}
BORDERS = {
    "a window that was forgotten",
    "a page of an index that was forgotten",
    "a member that was forgotten",
    "a member that was kept",
    "a part of a large member",
    "a file that is one member",
    "frames that are listed",
    "a group of plain records",
    "a file that is refused",
}


@pytest.fixture
def crossed(monkeypatch):
    """How often each border was crossed, by name; all limits are tiny."""
    found = collections.Counter(dict.fromkeys(BORDERS, 0))
    windows, pages, kept = set(), set(), set()

    def window(result, work, first):
        found["a window that was forgotten"] += (id(work), first) in windows
        windows.add((id(work), first))

    def page(result, work, block):
        key = (id(work), result[0])
        found["a page of an index that was forgotten"] += key in pages
        pages.add(key)

    def loaded(result, work, member):
        key = (work.files.diff, id(work), member.place)
        found["a member that was forgotten"] += key in kept
        found["a file that is one member"] += member.stream
        kept.add(key)

    def found_one(result, *_):
        found["a group of plain records"] += result is not None and result.place > 4

    inner = MemberCache.get

    def get(cache, key, cost, load):
        before = key in cache._items
        result = inner(cache, key, cost, load)
        found["a member that was kept"] += before
        return result

    with limits.small(monkeypatch), monkeypatch.context() as patch:
        for module, values in TINY.items():
            for name, value in values.items():
                assert hasattr(module, name)
                patch.setattr(module, name, value)
        limits.watch(patch, owners.Owners, "_window", window)
        limits.watch(patch, directory.Indexed, "_page", page)
        limits.watch(patch, storedblocks.StoredBlocks, "_decompress", loaded)
        limits.watch(patch, storedblocks.StoredBlocks, "_gather", lambda *_: found.update(["a part of a large member"]))
        limits.watch(patch, directory.Listed, "frames", lambda *_: found.update(["frames that are listed"]))
        limits.watch(patch, directory.Plain, "find", found_one)
        patch.setattr(membercache.MemberCache, "get", get)
        patch.setattr(base, "MAX_MEMBER", 10_000)  # until all is written
        patch.setattr(base, "MAX_STORED", 20_000)
        yield found


def history(rng, folder, suffix, block_size, count=9):
    """A set of versions of ours and of the original's that grow, shrink and come back, some rewritten; its volumes."""
    backup_set = chains.new_set(folder)
    volume = rng.randbytes(20 * block_size) + bytes(12 * block_size) + rng.randbytes(15 * block_size + block_size // 2)
    volumes = {}
    for number in range(1, count + 1):
        original = suffix == ".lzop" or (suffix == ".gz" and rng.random() < 0.3) or (not suffix and rng.random() < 0.5)
        short = "" if suffix == ".lzop" and number == 1 and rng.random() < 0.8 else suffix
        chains.write_version(
            backup_set, volume, block_size, codecs.BY_SUFFIX[short],
            full=number > 1 and not original and rng.random() < 0.1,
            original=original, member=rng.choice((100, 180, 3000)), with_index=rng.random() < 0.8,
        )  # fmt: skip
        volumes[number] = volume
        volume = changed(volume, rng, block_size, list(volumes.values()))
    for _ in range(3):
        number = rng.randrange(1, count + 1)
        links = [link.number for link in chain.chain_of(backup_set, number, backup_set.listing())]
        if len(links) > 1:
            rewrite(backup_set, number, rng.choice([None, *links[:-1]]))
    return backup_set, volumes


def holes(backup_set, volumes, rng):
    """Remove versions that no other one needs."""
    for number in list(volumes):
        listing = backup_set.listing()
        needed = {link.number for n in volumes if n != number for link in chain.chain_of(backup_set, n, listing)}
        if number not in needed and number != max(volumes) and rng.random() < 0.7:
            chains.drop(backup_set, number)
            del volumes[number]


def restored(backup_set, number, folder):
    target = folder / "restored"
    assert restore.restore(BackupSet(backup_set.name), number, str(target)).failure is None
    data = target.read_bytes()
    target.unlink()
    return data


def borders(rng, size, block_size):
    """Where reads begin and end: at and beside borders of blocks and windows, and anywhere."""
    near = [block_size * n + d for n in (0, 1, 6, 7, 8, 14, size // block_size) for d in (-1, 0, 1)]
    return sorted(rng.choice([*(p for p in near if 0 <= p <= size), rng.randrange(size + 1)]) for _ in range(2))


def check(found, volume, rng):
    """Every read of an image is that of the volume."""
    assert found.size == len(volume)
    for _ in range(25):
        begin, end = borders(rng, len(volume), found.block_size)
        assert found.read(begin, end - begin) == volume[begin:end], (begin, end)
        rows = list(found.extents(begin, end - begin))
        assert [row[0] for row in rows] == [begin, *(row[0] + row[1] for row in rows)][: len(rows)]
        assert sum(row[1] for row in rows) == end - begin
        assert not any(volume[at : at + length].strip(b"\0") for at, length, zero in rows if zero)
    assert found.read(0, found.size) == volume


def is_long(backup_set, number):
    """Whether a restore of a version reads a gzip or lzop file that is too long to be read without an index."""
    for link in chain.chain_of(backup_set, number, backup_set.listing()):
        files = chains.files_of(backup_set, link.number)
        if files.index is None and link.suffix in (".gz", ".lzop"):
            with open(files.diff, "rb") as file:
                if sum(map(len, codecs.BY_SUFFIX[link.suffix].stream(file.read))) > MOST:
                    return True
    return False


def run_history(seed, suffix, block_size, folder, crossed, monkeypatch):
    rng = random.Random(f"{seed} {suffix}")
    backup_set, volumes = history(rng, folder, suffix, block_size)
    holes(backup_set, volumes, rng)
    monkeypatch.setattr(base, "MAX_MEMBER", MOST)
    before = state(folder)
    for number, volume in volumes.items():
        assert restored(backup_set, number, folder) == volume
        try:
            with image.opened(BackupSet(backup_set.name), number, rng.choice((0, 1500, 100_000))) as found:
                assert not is_long(backup_set, number)
                check(found, volume, rng)
                assert found._members.used <= found._members._limit
        except NotOurFormat:
            crossed["a file that is refused"] += 1
            assert is_long(backup_set, number)
    assert state(folder) == before


def test_every_read_of_every_version_is_that_of_a_restore(tmp_path, crossed, monkeypatch):
    for suffix in SUFFIXES:
        for seed in range(4):
            folder = tmp_path / f"{suffix}{seed}"
            folder.mkdir()
            with monkeypatch.context() as patch:
                run_history(seed, suffix, BLOCK, folder, crossed, patch)
    assert {border for border, times in crossed.items() if times < 3} == set(), crossed


@pytest.mark.long
@pytest.mark.parametrize("seed", range(50))
def test_many_histories(seed, tmp_path, crossed, monkeypatch):
    rng = random.Random(seed)
    run_history(seed, rng.choice(SUFFIXES), rng.choice((1, 3, 8, 16, 33, 64, 100)), tmp_path, crossed, monkeypatch)


def small_chain(folder, codec, **options):
    """A chain of three versions that has records of each of them, and zeros, with few bytes; its newest volume."""
    backup_set = chains.new_set(folder)
    block, rng = 8, random.Random(1)
    volume = bytearray(rng.randbytes(5 * block) + bytes(5 * block) + rng.randbytes(block // 2))
    for number in range(1, 4):
        volume[number * block : (number + 1) * block] = rng.randbytes(block)
        chains.write_version(backup_set, bytes(volume), block, codec, member=20, **options)
    return backup_set, bytes(volume)


@pytest.mark.parametrize(("suffix", "options"), [(".zst", {}), (".gz", {}), (".zst", {"with_index": False}), (".gz", {"original": True}), ("", {"original": True})])  # fmt: skip
def test_whatever_bit_is_flipped_no_byte_is_wrong(suffix, options, tmp_path):
    backup_set, volume = small_chain(tmp_path, codecs.BY_SUFFIX[suffix], **options)
    read = wrong = 0
    rng = random.Random(suffix)
    for name in sorted(os.listdir(tmp_path)):
        if name.endswith((".lock", ".xxh128")):
            continue
        whole = (tmp_path / name).read_bytes()
        for place in range(len(whole)):
            for bit in [rng.randrange(8)] if name.endswith(".json") or len(whole) > 150 else rng.sample(range(8), 2):
                (tmp_path / name).write_bytes(
                    whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :]
                )
                try:
                    with image.opened(BackupSet(backup_set.name), 3) as found:
                        for begin in range(0, found.size, 8):
                            try:
                                assert found.read(begin, min(8, found.size - begin)) == volume[begin : begin + 8], (
                                    name, place, bit,
                                )  # fmt: skip
                                read += 1
                            except BlockdiffError as error:
                                assert error.exit_code in (50, 51, 53)
                                wrong += 1
                except BlockdiffError:
                    wrong += 1
        (tmp_path / name).write_bytes(whole)
    assert read > 100 < wrong


def test_damage_costs_what_it_hits_and_the_error_names_it(tmp_path):
    backup_set = chains.random_set(tmp_path, 1, 64, blocks=40)
    with open(backup_set.path(1, ".gz"), "rb") as file:
        data = bytearray(file.read())
    volume = restored(backup_set, 1, tmp_path)
    place = data.find(volume[20 * 64 : 21 * 64])  # random data is stored as it is
    data[place] ^= 1
    with open(backup_set.path(1, ".gz"), "wb") as file:
        file.write(data)
    with image.opened(backup_set, 1) as found, pytest.raises(BlockdiffError, match=r"vol\.1\.gz") as caught:
        found.read(0, 64)
    assert "blockdiff-verify" in caught.value.hint


def test_a_record_that_is_another_block_s_is_never_taken_for_it(tmp_path):
    backup_set = chains.new_set(tmp_path)
    volume = b"".join(bytes([n]) * 8 for n in range(1, 7))
    chains.write_version(backup_set, volume, 8, codecs.PLAIN, original=True)
    path = backup_set.path(1, "")
    with open(path, "rb") as file:
        data = bytearray(file.read())
    data[4 + 16 : 4 + 24] = (5 * 8).to_bytes(8, "little")  # the record of block 1 says that it is of block 5
    with open(path, "wb") as file:
        file.write(data)
    with image.opened(backup_set, 1) as found:
        for begin in range(0, 48, 8):
            for length in (8, 16, 24):
                try:
                    assert found.read(begin, min(length, 48 - begin)) == volume[begin : begin + length]
                except DigestMismatch as error:
                    assert path in str(error)


def test_reads_go_on_while_the_files_are_removed(tmp_path):
    rng = random.Random(7)
    backup_set, volumes = history(rng, tmp_path, ".zst", BLOCK)
    newest = max(volumes)
    with image.opened(backup_set, newest, 0) as found:
        for name in os.listdir(tmp_path):
            os.unlink(tmp_path / name)
        check(found, volumes[newest], rng)


def test_reads_go_on_while_versions_are_rewritten_and_removed(tmp_path):
    backup_set, volume = small_chain(tmp_path, codecs.GZIP)
    with image.opened(backup_set, 3, 0) as found:
        rewrite(backup_set, 3, None)
        chains.drop(backup_set, 2)
        chains.drop(backup_set, 1)
        check(found, volume, random.Random(1))
    with image.opened(BackupSet(backup_set.name), 3) as found:
        check(found, volume, random.Random(1))


def test_many_threads_read_the_same_image(tmp_path):
    rng = random.Random(3)
    backup_set, volumes = history(rng, tmp_path, ".gz", 64)
    number = next(n for n in sorted(volumes, reverse=True) if not is_long(backup_set, n))
    failures = []
    with image.opened(backup_set, number, 6000) as found:

        def read(seed):
            try:
                check(found, volumes[number], random.Random(seed))
            except BaseException as error:
                failures.append(error)

        workers = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert found._members.used <= 6000
    assert failures == []


@pytest.mark.parametrize("indexed", [True, False], ids=["indexed", "without index"])
@pytest.mark.parametrize("name", ["gz", "zst"])
def test_a_member_that_is_too_large_is_read_in_parts(name, indexed, tmp_path):
    for path in VECTORS.glob(f"{name}.*"):
        shutil.copy(path, tmp_path)
    backup_set = BackupSet(str(tmp_path / name))
    if not indexed:
        os.unlink(backup_set.path(2, ".idx"))
    if name == "gz" and not indexed:
        with pytest.raises(NotOurFormat), image.opened(backup_set, 3):
            pass
        return
    volume = volume_of(3)
    with peak_below(45 << 20), image.opened(backup_set, 3, 16 << 20) as found:
        assert found.size == len(volume)
        for begin in (0, 330_000 * 3, 330_000 * 131 + 5, 330_000 * 279, found.size - 7):
            end = min(found.size, begin + 400_000)
            assert found.read(begin, end - begin) == volume[begin:end]


def test_zeros_are_answered_without_the_diff_file(tmp_path):
    backup_set = chains.new_set(tmp_path)
    chains.write_version(backup_set, bytes(64) + b"x" * 64, 64, codecs.PLAIN, original=True)
    with image.opened(backup_set, 1) as found:
        path = backup_set.path(1, "")
        with open(path, "r+b") as file:
            file.write(b"\xff" * os.path.getsize(path))
        assert found.read(0, 64) == bytes(64)
        with pytest.raises(BlockdiffError):
            found.read(60, 8)


def test_what_there_is_not(tmp_path):
    backup_set, volumes = history(random.Random(5), tmp_path, ".zst", BLOCK)
    with pytest.raises(NoSuchVersion), image.opened(backup_set, 99):
        pass
    with image.opened(backup_set, None) as found:
        assert found.version.number == max(volumes)
        for begin, length in ((0, found.size + 1), (found.size, 1), (-1, 2)):
            with pytest.raises(ValueError, match="bytes"):
                found.read(begin, length)
        assert found.read(found.size, 0) == b""
    chains.drop(backup_set, 1)
    broken = next(n for n in sorted(volumes) if n > 1 and backup_set.read_manifest(n).parent == 1)
    with pytest.raises(ChainBroken), image.opened(backup_set, broken):
        pass


def test_only_the_wanted_version_s_digest_file_must_be_the_one_of_its_manifest(tmp_path):
    backup_set, volume = small_chain(tmp_path, codecs.GZIP)
    for number in (2, 3):
        with open(backup_set.path(number, ".md5"), "r+b") as file:
            file.seek(4)
            file.write(bytes(16))  # the digest of block 0
        if number == 2:
            with image.opened(backup_set, 3) as found:
                assert found.read(8, len(volume) - 8) == volume[8:]
                with pytest.raises(DigestMismatch):  # it seems to be in version 3
                    found.read(0, 8)
        else:
            with pytest.raises(DamagedFile), image.opened(backup_set, 3):
                pass


def test_a_block_that_is_longer_than_the_manifest_lets_it_be_is_damage(tmp_path):
    backup_set, volume = small_chain(tmp_path, codecs.GZIP)
    value = dict(backup_set.read_manifest(3).value)
    value["source"] = value["source"] | {"size": len(volume) - 1}
    with open(backup_set.path(3, ".json"), "wb") as file:
        file.write(manifest.encode(value))
    with image.opened(backup_set, 3) as found:
        assert found.size == len(volume) - 1
        with pytest.raises(DigestMismatch, match="byte 80"):
            found.read(79, 3)
