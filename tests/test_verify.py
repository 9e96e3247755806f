"""Verify: any damage of any file is found, and what it says restores does restore, no more and no less."""

import os
import pathlib
import shutil

import chains
import places
import pytest

from blockdiff import codecs, restore, verify
from blockdiff.errors import BlockdiffError, ForeignFiles, NoSuchSet, NoSuchVersion
from blockdiff.sets.backupset import BackupSet

BLOCK = 64
CODECS = [codecs.PLAIN, codecs.GZIP, codecs.ZSTD]
IDS = ["plain", "gzip", "zstd"]
SPEED_ONLY = (".idx", ".xxh128")


def small_chain(folder, codec):
    """A chain of ours with everything in it, small enough to break at every byte; returns the volumes."""
    backup_set = chains.new_set(folder)
    volume = bytearray(os.urandom(5 * BLOCK) + bytes(6 * BLOCK) + b"tail")
    volumes = []
    for number in range(3):
        volume[number * BLOCK : (number + 1) * BLOCK] = os.urandom(BLOCK)
        if number == 2:
            del volume[8 * BLOCK + 9 :]
        chains.write_version(backup_set, bytes(volume), BLOCK, codec, member=200)
        volumes.append(bytes(volume))
    return backup_set, volumes


def outcome_of(backup_set, number, path):
    """The bytes that a restore gives, or None if it stops; the leftovers are removed."""
    try:
        done = restore.restore(backup_set, number, path, threads=1)
    except BlockdiffError:
        return None
    try:
        return None if done.failure is not None else pathlib.Path(path).read_bytes()
    finally:
        os.unlink(done.path)


def shallow(found):
    """What a verify says, in short."""
    return {v.number: v.restores for v in found.versions}


@pytest.mark.parametrize("codec", CODECS, ids=IDS)
def test_a_whole_chain_is_clean(codec, tmp_path):
    backup_set, _ = small_chain(tmp_path, codec)

    found = verify.verify(backup_set)

    assert (found.exit_code, found.all_faults, found.all_warnings) == (0, [], [])
    assert shallow(found) == {1: True, 2: True, 3: True}
    assert found.read == sum(os.path.getsize(backup_set.path(n, codec.suffix)) for n in (1, 2, 3))


HEADER = 48  # bytes at a file's beginning, each of which is damaged in every run
EVERY = pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.long)], ids=["sample", "every"])


def places_of(size, every):
    """The places of a file that are damaged: those of its header, and one in 8 elsewhere, or all with `every`."""
    return [i for i in range(size) if every or i < HEADER or i % 8 == i // 8 % 8]


def damages(path, every):
    """Flipped bytes and cuts of a file: (what, bytes)."""
    data = path.read_bytes()
    for place in places_of(len(data), every):
        mask = (0x01, 0x41, 0x80, 0xFF)[place % 4]
        yield f"byte {place} flipped by {mask}", data[:place] + bytes([data[place] ^ mask]) + data[place + 1 :]
    for length in places_of(len(data), every):
        yield f"cut to {length}", data[:length]
    yield "a byte too many", data + b"\0"


FILES = [
    pytest.param(codec, number, suffix, id=f"{name}-{number}{suffix or '.plain'}")
    for codec, name in zip(CODECS, IDS, strict=True)
    for number in (1, 2, 3)
    for suffix in (codec.suffix, ".md5", ".json", ".idx", ".xxh128")
    if (suffix != ".idx" or codec.suffix)
    and (suffix not in (".json", ".xxh128") or codec is codecs.GZIP)  # they are alike under every codec
] + [pytest.param(codecs.GZIP, None, ".ver", id="gzip.ver")]


@EVERY
@pytest.mark.parametrize("codec, number, suffix", FILES)
def test_any_flipped_byte_and_any_cut_is_found(codec, number, suffix, every, tmp_path):
    backup_set, volumes = small_chain(tmp_path, codec)
    path = pathlib.Path(backup_set.name + ".ver" if number is None else backup_set.path(number, suffix))
    whole = path.read_bytes()
    out = str(tmp_path / "out")
    for what, data in damages(path, every):
        if data == whole:
            continue
        path.write_bytes(data)
        found = verify.verify(backup_set, threads=1)
        assert found.exit_code != 0, what
        says = shallow(found)
        if suffix in SPEED_ONLY:
            assert found.exit_code == 3 and all(says.values()), what
        for n, volume in enumerate(volumes, 1):
            got = outcome_of(backup_set, n, out)
            assert got is None or got == volume, f"{what}: version {n} is restored wrong"
            if number is not None:
                assert (got is not None) == says[n], f"{what}: version {n}: verify and restore disagree"
    path.write_bytes(whole)
    assert verify.verify(backup_set).exit_code == 0


@EVERY
@pytest.mark.parametrize("codec", [codecs.PLAIN, codecs.GZIP], ids=["plain", "gzip"])
def test_damage_to_the_originals_files_never_restores_wrong(codec, every, tmp_path):
    """They carry no digest of themselves: what is not needed may be damaged unseen, wrong bytes never come."""
    backup_set = chains.new_set(tmp_path)
    volume = bytearray(os.urandom(6 * BLOCK + 5))
    volumes = []
    for number in range(2):
        volume[number * BLOCK : (number + 1) * BLOCK] = os.urandom(BLOCK)
        chains.write_version(backup_set, bytes(volume), BLOCK, codec, original=True)
        volumes.append(bytes(volume))
    out = str(tmp_path / "out")
    for number in (1, 2):
        path = pathlib.Path(backup_set.path(number, codec.suffix))
        whole = path.read_bytes()
        for what, data in damages(path, every):
            path.write_bytes(data)
            says = shallow(verify.verify(backup_set, threads=1))
            for n, volume in enumerate(volumes, 1):
                got = outcome_of(backup_set, n, out)
                assert got is None or got == volume, f"{what}: version {n} is restored wrong"
                assert not says[n] or got == volume, f"{what}: version {n} was said to restore"
        path.write_bytes(whole)


def flip(path, place):
    with open(path, "r+b") as file:
        file.seek(place)
        byte = file.read(1)
        file.seek(place)
        file.write(bytes([byte[0] ^ 0xFF]))


def record_at(position, block_size=BLOCK):
    """Where the block of the record at this position begins in a plain diff file."""
    return 4 + position * (8 + block_size) + 8


def test_lost_bytes_are_named_until_a_later_version_heals_them(tmp_path):
    backup_set = chains.new_set(tmp_path)
    volume = bytearray(os.urandom(10 * BLOCK))
    for number in range(4):
        volume[number * BLOCK : (number + 1) * BLOCK] = os.urandom(BLOCK)
        chains.write_version(backup_set, bytes(volume), BLOCK, codecs.PLAIN)
    flip(backup_set.path(1, ""), record_at(2))  # block 2, which version 3 stores anew
    flip(backup_set.path(1, ""), record_at(7))
    flip(backup_set.path(4, ""), record_at(0))

    found = verify.verify(backup_set)

    assert found.exit_code == 53
    assert [v.lost for v in found.versions] == [
        [(2 * BLOCK, 3 * BLOCK), (7 * BLOCK, 8 * BLOCK)],
        [(2 * BLOCK, 3 * BLOCK), (7 * BLOCK, 8 * BLOCK)],
        [(7 * BLOCK, 8 * BLOCK)],
        [(3 * BLOCK, 4 * BLOCK), (7 * BLOCK, 8 * BLOCK)],
    ]
    assert [len(v.faults) for v in found.versions] == [2, 0, 0, 1]
    assert not any(v.restores for v in found.versions)


def test_a_healed_version_restores(tmp_path):
    backup_set = chains.new_set(tmp_path)
    volume = bytearray(os.urandom(10 * BLOCK))
    chains.write_version(backup_set, bytes(volume), BLOCK, codecs.PLAIN)
    volume[2 * BLOCK : 3 * BLOCK] = os.urandom(BLOCK)
    chains.write_version(backup_set, bytes(volume), BLOCK, codecs.PLAIN)
    chains.write_version(backup_set, os.urandom(100), BLOCK, codecs.GZIP, full=True)
    flip(backup_set.path(1, ""), record_at(2))

    found = verify.verify(backup_set)

    assert shallow(found) == {1: False, 2: True, 3: True} and found.exit_code == 53
    assert outcome_of(backup_set, 2, str(tmp_path / "out")) == volume


def test_a_shrunk_volume_forgets_what_was_lost_beyond_its_end(tmp_path):
    backup_set = chains.new_set(tmp_path)
    volume = os.urandom(10 * BLOCK)
    chains.write_version(backup_set, volume, BLOCK, codecs.PLAIN)
    chains.write_version(backup_set, volume[: 5 * BLOCK], BLOCK, codecs.PLAIN)
    flip(backup_set.path(1, ""), record_at(7))

    assert shallow(verify.verify(backup_set)) == {1: False, 2: True}
    assert outcome_of(backup_set, 2, str(tmp_path / "out")) == volume[: 5 * BLOCK]


def test_a_record_that_is_missing_is_found(tmp_path):
    """The original's plain file, cut on a record's border: each record that is there is right."""
    backup_set = chains.new_set(tmp_path)
    volume = bytearray(os.urandom(10 * BLOCK))
    chains.write_version(backup_set, bytes(volume), BLOCK, codecs.PLAIN, original=True)
    volume[: 3 * BLOCK] = os.urandom(3 * BLOCK)
    chains.write_version(backup_set, bytes(volume), BLOCK, codecs.PLAIN, original=True)
    os.truncate(backup_set.path(2, ""), 4 + 2 * (8 + BLOCK))

    found = verify.verify(backup_set)

    assert found.exit_code == 51 and shallow(found) == {1: True, 2: False}
    assert found.versions[1].lost == [(2 * BLOCK, 3 * BLOCK)]
    assert f"bytes {2 * BLOCK} to {3 * BLOCK - 1}" in str(found.all_faults[0])


def test_a_damaged_gzip_member_loses_its_blocks_only(tmp_path):
    backup_set = chains.new_set(tmp_path)
    chains.write_version(backup_set, os.urandom(40 * BLOCK), BLOCK, codecs.GZIP, member=10 * BLOCK)
    flip(backup_set.path(1, ".gz"), os.path.getsize(backup_set.path(1, ".gz")) // 2)

    version = verify.verify(backup_set).versions[0]

    assert 0 < version.lost_bytes <= 11 * BLOCK
    assert "member at byte" in str(version.faults[0])


def test_a_missing_version_is_told_by_the_next(tmp_path):
    backup_set, volumes = small_chain(tmp_path, codecs.GZIP)
    for suffix in backup_set.listing().versions[2]:
        os.unlink(backup_set.path(2, suffix))

    found = verify.verify(backup_set)

    assert shallow(found) == {1: True, 3: False} and found.exit_code == 52
    assert "version 2 is missing" in str(found.all_faults[0])
    assert outcome_of(backup_set, 1, str(tmp_path / "out")) == volumes[0]


def test_only_what_one_version_needs_is_read_with_a_number(tmp_path):
    backup_set = chains.new_set(tmp_path)
    volumes = [os.urandom(4 * BLOCK) for _ in range(5)]
    for number, volume in enumerate(volumes, 1):
        chains.write_version(backup_set, volume, BLOCK, full=number == 3)
    flip(backup_set.path(1, ".gz"), 80)
    flip(backup_set.path(5, ".gz"), 80)

    found = verify.verify(backup_set, 4)

    assert found.exit_code == 0 and shallow(found) == {3: True, 4: True}
    assert shallow(verify.verify(backup_set)) == {1: False, 2: True, 3: True, 4: True, 5: False}


def test_a_file_of_another_make_with_the_same_content_is_a_warning(tmp_path):
    """The original wrote the version again, after a run of ours that had died: same content, other bytes."""
    backup_set = chains.new_set(tmp_path)
    volume = os.urandom(5 * BLOCK)
    chains.write_version(backup_set, volume, BLOCK, codecs.GZIP)
    for suffix in (".gz", ".md5"):
        os.unlink(backup_set.path(1, suffix))
    (pathlib.Path(backup_set.folder) / "vol.ver").unlink()
    other = chains.new_set(tmp_path, "other")
    chains.write_version(other, volume, BLOCK, codecs.GZIP, original=True)
    for suffix in (".gz", ".md5"):
        os.rename(other.path(1, suffix), backup_set.path(1, suffix))
    backup_set.publish_ver(1)

    found = verify.verify(backup_set)

    assert found.exit_code == 3 and shallow(found) == {1: True}
    assert any("not the file that the manifest describes" in line for line in found.all_warnings)


def test_records_that_need_not_be_there_are_told(tmp_path):
    backup_set = chains.new_set(tmp_path)
    volume = os.urandom(5 * BLOCK)
    chains.write_version(backup_set, volume, BLOCK, codecs.PLAIN, original=True)
    chains.write_version(backup_set, volume, BLOCK, codecs.PLAIN, original=True)
    blocks = chains.blocks_of(volume, BLOCK)
    pathlib.Path(backup_set.path(2, "")).write_bytes(chains.payload_of(blocks, [1, 3], BLOCK))

    found = verify.verify(backup_set)

    assert found.exit_code == 3 and shallow(found) == {1: True, 2: True}
    assert "2 records of blocks that did not change" in found.all_warnings[0]


def test_ver_that_is_of_no_use_does_not_stop_it(tmp_path):
    backup_set, _ = small_chain(tmp_path, codecs.GZIP)
    os.unlink(backup_set.name + ".ver")

    found = verify.verify(backup_set)

    assert found.exit_code == 14 and isinstance(found.faults[0], ForeignFiles)
    assert shallow(found) == {1: True, 2: True, 3: True}


def test_versions_above_ver_are_told(tmp_path):
    backup_set, _ = small_chain(tmp_path, codecs.GZIP)
    backup_set.publish_ver(2)

    found = verify.verify(backup_set)

    assert found.exit_code == 3 and shallow(found) == {1: True, 2: True}


def test_no_such_set_or_version(tmp_path):
    backup_set = chains.new_set(tmp_path)
    with pytest.raises(NoSuchSet):
        verify.verify(backup_set)
    chains.write_version(backup_set, b"x", BLOCK)
    with pytest.raises(NoSuchVersion):
        verify.verify(backup_set, 2)


def test_what_was_proved_before_is_not_read_again(tmp_path):
    backup_set, volumes = small_chain(tmp_path, codecs.GZIP)
    known = verify.verify(backup_set).proofs
    chains.write_version(backup_set, volumes[-1] + b"more", BLOCK)

    found = verify.verify(backup_set, known=known)

    assert [v.before for v in found.versions] == [True, True, True, False]
    assert found.read == os.path.getsize(backup_set.path(4, ".gz"))
    assert all(shallow(found).values()) and set(found.proofs) == {1, 2, 3, 4}


def test_what_was_not_whole_is_read_again(tmp_path):
    backup_set, _ = small_chain(tmp_path, codecs.GZIP)
    flip(backup_set.path(2, ".gz"), 30)
    first = verify.verify(backup_set)
    assert 2 not in first.proofs and first.exit_code

    second = verify.verify(backup_set, known=first.proofs)

    assert shallow(second) == shallow(first) and second.exit_code == first.exit_code


def test_a_version_that_was_replaced_is_read_again(tmp_path):
    backup_set, volumes = small_chain(tmp_path, codecs.GZIP)
    known = verify.verify(backup_set).proofs
    for suffix in backup_set.listing().versions[3]:
        os.unlink(backup_set.path(3, suffix))
    backup_set.publish_ver(2)
    chains.write_version(backup_set, volumes[1] + b"other", BLOCK)

    assert [v.before for v in verify.verify(backup_set, known=known).versions] == [True, True, False]


def test_a_proof_does_not_hide_a_chain_that_broke_later(tmp_path):
    backup_set, _ = small_chain(tmp_path, codecs.GZIP)
    known = verify.verify(backup_set).proofs
    flip(backup_set.path(1, ".md5"), 20)

    assert not any(shallow(verify.verify(backup_set, known=known)).values())


def test_golden_sets_are_clean():
    golden = places.GOLDEN
    for folder in sorted(path for path in golden.iterdir() if path.is_dir()):
        if folder.name == "lzop" and shutil.which("lzop") is None:
            continue
        found = verify.verify(BackupSet(str(folder / folder.name)))
        assert (found.exit_code, found.all_faults, found.all_warnings) == (0, [], []), folder.name


def test_only_what_some_versions_need_is_read_and_no_more_after_the_end_is_asked_for(tmp_path):
    backup_set = chains.new_set(tmp_path)
    for number in range(1, 8):
        chains.write_version(backup_set, os.urandom(4 * BLOCK), BLOCK, full=number in (3, 6))
    assert list(shallow(verify.verify(backup_set, only=[4, 2]))) == [1, 2, 3, 4]
    assert list(shallow(verify.verify(backup_set, only=[7], stop=lambda read: read > 0))) == [6]
    assert not verify.verify(backup_set, stop=lambda read: True).versions
    with pytest.raises(NoSuchVersion):
        verify.verify(backup_set, only=[4, 9])
