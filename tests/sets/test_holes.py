"""Sets with holes in their numbers: versions that were rewritten onto an older one, and what was dropped."""

import gzip
import hashlib
import json
import os
import pathlib
import random

import chains
import limits
import original
import pytest
from engine import files_of, restored
from rewrites import rewrite
from verbs import run_verb

from blockdiff import codecs, verify
from blockdiff.errors import NewerManifest
from blockdiff.formats import manifest
from blockdiff.sets import catalogue, drop, recover

__all__ = ["run_verb"]
BLOCK = 64


def history(folder, count, codec=codecs.GZIP, seed=0):
    """A set of so many versions in which blocks also go back to what they were, and its volumes by number."""
    chance = random.Random(seed)
    backup_set, volumes = chains.new_set(folder), {}
    blocks = [chance.randbytes(BLOCK) for _ in range(12)]
    for _ in range(count):
        for place in chance.sample(range(len(blocks)), 3):
            blocks[place] = chance.choice([chance.randbytes(BLOCK), bytes(BLOCK), blocks[0]])
        if chance.random() < 0.4:
            blocks = blocks[: chance.randint(6, 12)] + [chance.randbytes(BLOCK)] * chance.randint(0, 3)
        volume = b"".join(blocks)
        volumes[chains.write_version(backup_set, volume, BLOCK, codec)] = volume
    return backup_set, volumes


def check(backup_set, volumes, folder):
    """Every version that stays restores and is proved without a warning, and none is told to be missing."""
    found = verify.verify(backup_set)
    assert (found.exit_code, found.all_warnings) == (0, [])
    assert [v.number for v in found.versions if v.restores] == sorted(volumes)
    listed = catalogue.describe(backup_set)
    assert [(entry.number, entry.why) for entry in listed.versions] == [(n, "") for n in sorted(volumes)]
    for number, volume in volumes.items():
        assert restored(backup_set.name, number, folder / "out") == volume
        assert original.merged(backup_set.name, number)[: len(volume)] == volume, f"version {number} by the original"


@pytest.mark.parametrize("codec", [codecs.GZIP, codecs.PLAIN, codecs.BY_SUFFIX[".zst"]])
@pytest.mark.parametrize("seed", range(3))
def test_real_rewrites_and_drops_with_tiny_limits(tmp_path, codec, seed, monkeypatch):
    chance = random.Random(seed)
    backup_set, volumes = history(tmp_path, 7, codec, seed)
    parents = {n: n - 1 or None for n in volumes}
    with limits.small(monkeypatch) as crossed:
        while len(volumes) > 3:
            number = chance.choice([n for n in volumes if parents[n] not in (None, 1)] or [max(volumes)])
            between = [n for n in volumes if (parents[number] or number) >= n > 1]
            rewrite(backup_set, number, 1 if number != max(volumes) else None, threads=2)
            parents[number] = 1 if number != max(volumes) else None
            check(backup_set, volumes, tmp_path)
            gone = [n for n in between if n not in parents.values() and n != number]
            with backup_set.locked():
                drop.drop(backup_set, gone)
            for each in gone:
                del parents[each], volumes[each]
            check(backup_set, volumes, tmp_path)
            if number == max(volumes):
                break
    assert len(volumes) < 7
    assert crossed["a window of digests"] and crossed["a piece of a diff file"]


def test_records_that_need_not_exist_are_told_of_versions_that_were_not_rewritten(tmp_path):
    backup_set, _ = history(tmp_path, 3)
    chains.rewrite(backup_set, 3, 1, [1, 2, 3])  # with records of 1, which it does not need
    assert verify.verify(backup_set).all_warnings == []
    value = backup_set.read_manifest(3).value
    pathlib.Path(backup_set.path(3, ".json")).write_bytes(
        manifest.encode({key: item for key, item in value.items() if key != "rewritten"})
    )
    (line,) = verify.verify(backup_set).all_warnings
    assert "records of blocks that did not change" in line and ".3" in line


def test_a_set_with_holes_may_be_renamed(tmp_path, run_verb):
    old, volumes = history(tmp_path, 6)
    chains.rewrite(old, 4, 1, [2, 3, 4])
    for number in (2, 3):
        chains.drop(old, number)
        del volumes[number]
    for name in sorted(os.listdir(tmp_path)):
        os.rename(tmp_path / name, tmp_path / name.replace("vol.", "new.", 1))
    backup_set = chains.new_set(tmp_path, "new")

    for after in (False, True):
        if after:
            volume = os.urandom(12 * BLOCK)
            volumes[chains.write_version(backup_set, volume, BLOCK)] = volume
        for number, volume in volumes.items():
            assert restored(backup_set.name, number, tmp_path / "out") == volume
            assert original.merged(backup_set.name, number)[: len(volume)] == volume
        found = verify.verify(backup_set)
        assert (found.exit_code, [v.number for v in found.versions]) == (0, sorted(volumes))
        (note,) = [note for v in found.versions for note in v.notes]
        assert note == "up to version 6 this set was called 'vol'"


@pytest.mark.parametrize("codec", [codecs.GZIP, codecs.PLAIN])
@pytest.mark.parametrize("seed", range(6))
def test_every_version_restores_while_versions_are_rewritten_and_dropped(tmp_path, codec, seed):
    chance = random.Random(seed)
    backup_set, volumes = history(tmp_path, 8, codec, seed)
    parents = {n: n - 1 or None for n in volumes}
    for _ in range(4):
        number = chance.choice([n for n, before in parents.items() if before] or [None])
        if number is None:
            break
        chain = [number]
        while parents[chain[-1]]:
            chain.append(parents[chain[-1]])
        onto = chance.choice([*chain[1:], None])
        between = chain[: chain.index(onto)] if onto else chain
        chains.rewrite(backup_set, number, onto, between)
        parents[number] = onto
        check(backup_set, volumes, tmp_path)  # the parent may have two children now
        for gone in between[1:]:
            if gone not in parents.values():
                chains.drop(backup_set, gone)
                del parents[gone], volumes[gone]
        check(backup_set, volumes, tmp_path)


def test_list_tells_the_parent_and_what_was_made_here(tmp_path, run_verb):
    backup_set, _ = history(tmp_path, 6)
    chains.rewrite(backup_set, 4, 1, [2, 3, 4])
    chains.rewrite(backup_set, 6, None, [1, 4, 5, 6])
    for number in (2, 3):
        path = pathlib.Path(backup_set.path(number, ".md5"))
        path.rename(f"{path}.part")

    done = run_verb("list", backup_set.name)

    assert done.returncode == 0
    assert "incremental on 1 " in done.out and "full, made here " in done.out and "missing" not in done.out
    assert "2 versions from 2 to 3 are being removed" in done.out
    done = run_verb("merge", "--to", "2", backup_set.name, tmp_path / "out")
    assert done.returncode == 11 and not (tmp_path / "out").exists()
    assert sorted(v.number for v in verify.verify(backup_set).versions) == [1, 4, 5, 6]


def newer(backup_set, number):
    """Let a version's manifest be of a format that is not known."""
    path = pathlib.Path(backup_set.path(number, ".json"))
    value = dict(backup_set.read_manifest(number).value, format=2)
    data = manifest.encode(value).replace(b'"format":2', b'"format":3')
    bare = {key: item for key, item in json.loads(data).items() if key != "self_sha256"}
    text = json.dumps(bare, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"
    bare["self_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(json.dumps(bare, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n")


def test_a_manifest_of_a_newer_program_is_left_alone(tmp_path, run_verb):
    backup_set, _ = history(tmp_path, 3)
    newer(backup_set, 3)
    source = tmp_path / "source"
    source.write_bytes(os.urandom(5 * BLOCK))
    before = sorted(os.listdir(tmp_path))

    for words in (["verify", backup_set.name], ["merge", backup_set.name, tmp_path / "out"],
                  ["backup", backup_set.name, source], ["backup", "--full", backup_set.name, source]):  # fmt: skip
        done = run_verb(*words)
        assert done.returncode == 50, (words, done.out, done.err)
        assert "of a newer blockdiff" in done.out + done.err and "move it away" not in done.out + done.err
    assert "of a newer blockdiff" in run_verb("list", backup_set.name).out
    assert set(before) <= set(os.listdir(tmp_path)) and backup_set.newest() == 3


def test_what_a_newer_program_did_not_publish_is_not_removed(tmp_path):
    backup_set, _ = history(tmp_path, 3)
    newer(backup_set, 3)
    backup_set.publish_ver(2)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(NewerManifest):
        recover.settle(backup_set, print)
    assert sorted(os.listdir(tmp_path)) == before


def part_of(backup_set, path):
    """A run's temporary name of a file."""
    return f"{path}.r{'0' * 16}.part"


@pytest.mark.parametrize("place", ["below", "draft of one", "draft of the next", "removed"])
def test_a_manifest_of_a_newer_program_stops_what_settles(place, tmp_path, run_verb):
    backup_set, _ = history(tmp_path, 3)
    number = 3 if place == "draft of the next" else 2
    newer(backup_set, number)
    sheet = backup_set.path(number, ".json")
    if place == "draft of one":
        good = backup_set.read_manifest(1).value  # any that can be read: the set's own manifest stays
        os.rename(sheet, part_of(backup_set, sheet))
        pathlib.Path(sheet).write_bytes(manifest.encode(dict(good, version=2)))
    elif place == "draft of the next":
        backup_set.publish_ver(2)
        for suffix in backup_set.listing().versions[3]:
            os.rename(backup_set.path(3, suffix), part_of(backup_set, backup_set.path(3, suffix)))
    elif place == "removed":
        os.rename(backup_set.path(2, ".md5"), backup_set.path(2, ".md5") + ".part")
    (tmp_path / "source").write_bytes(os.urandom(5 * BLOCK))
    (tmp_path / "vol.lock").touch(0o600)
    before = files_of(tmp_path)

    with pytest.raises(NewerManifest), backup_set.locked():
        recover.settle(backup_set, print)
    for words in ([], ["--full"]):
        done = run_verb("backup", *words, backup_set.name, tmp_path / "source")
        assert done.returncode == 50 and "of a newer blockdiff" in done.err
    assert files_of(tmp_path) == before


def test_an_index_of_another_diff_file_of_the_same_size_is_not_believed(tmp_path):
    volumes = [os.urandom(40 * BLOCK) for _ in range(2)]
    backup_set = chains.new_set(tmp_path)
    for volume in volumes:
        chains.write_version(backup_set, volume, BLOCK, member=500)
    path = pathlib.Path(backup_set.path(2, ".gz"))
    size = path.stat().st_size
    _, records = chains.records_of(backup_set, 2)
    payload = chains.payload_of([records[i] for i in range(40)], range(40), BLOCK)
    data = gzip.compress(payload, 0, mtime=0)
    data += gzip.compress(b"", mtime=0) * ((size - len(data)) // 20)
    name = b"x" * (size - len(data))  # the header of the first member takes a name of any length
    if name:
        data = data[:3] + b"\x08" + data[4:10] + name[:-1] + b"\0" + data[10:]
    assert len(data) == size
    path.write_bytes(data)

    assert restored(backup_set.name, 2, tmp_path / "out") == volumes[1]
    found = verify.verify(backup_set)
    assert found.exit_code == 3 and all(v.restores for v in found.versions)
    assert any(".idx" in line for line in found.all_warnings)
