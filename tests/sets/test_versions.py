"""Which files of a set count, and what is built upon them: stale manifests, renamed sets, sizes that cannot be."""

import os
import pathlib
import shutil
import subprocess

import chains
import places
import pytest
from engine import back_up, local_agent, restored

from blockdiff import catalogue, codecs, verify
from blockdiff.errors import ChainBroken, DamagedFile, MissingFile
from blockdiff.sets.backupset import BackupSet

BLOCK = 64
GOLDEN = places.GOLDEN


def volumes(count):
    """Volumes of one size, each with another first block than the one before."""
    rest = os.urandom(9 * BLOCK)
    return [os.urandom(BLOCK) + rest for _ in range(count)]


def written(folder, some, base="vol", **options):
    store = chains.new_set(folder, base)
    for volume in some:
        chains.write_version(store, volume, BLOCK, **options)
    return store


def listed(store):
    """{version: (restores, why)}."""
    return {entry.number: (entry.restores, entry.why) for entry in catalogue.describe(store).versions}


# a manifest that something overwrote


def stale(folder):
    """A set whose version 2 is the original's, beside what a run of ours left; and the volume of version 2."""
    one, two, theirs = volumes(3)
    store = written(folder, [one, two])
    store.publish_ver(1)
    chains.write_version(store, theirs, BLOCK, original=True)
    return store, theirs


def test_a_stale_manifest_is_told_with_the_command_that_removes_it(tmp_path):
    store, theirs = stale(tmp_path)

    found = verify.verify(store)

    assert (found.exit_code, [v.restores for v in found.versions]) == (0, [True, True])
    ignored, removed = found.versions[1].notes
    assert "ignored" in ignored and not found.versions[0].notes
    command = removed.split("to remove what is ignored: ")[1]
    assert command == f"rm {' '.join(store.path(2, suffix) for suffix in ('.json', '.idx', '.xxh128'))}"
    subprocess.run(command, shell=True, check=True)
    again = verify.verify(store)
    assert (again.exit_code, [v.restores for v in again.versions]) == (0, [True, True])
    assert not any(v.notes for v in again.versions)
    assert restored(store.name, 2, tmp_path / "out") == theirs


def test_what_is_ignored_of_a_damaged_version_is_not_to_be_removed(tmp_path):
    store, _ = stale(tmp_path)
    os.truncate(store.path(2, ".gz"), os.path.getsize(store.path(2, ".gz")) - 9)

    found = verify.verify(store)

    assert found.exit_code != 0 and found.versions[1].faults
    assert len(found.versions[1].notes) == 1 and "rm " not in found.versions[1].notes[0]


def test_a_stale_manifest_is_a_note_on_stderr_and_none_when_quiet(run, tmp_path):
    store, _ = stale(tmp_path)
    env = {"XDG_STATE_HOME": str(tmp_path / "state")}
    done, quiet = run("blockdiff-verify", store.name, env=env), run("blockdiff-verify", "-q", store.name, env=env)
    assert (done.returncode, quiet.returncode, quiet.stderr, quiet.stdout) == (0, 0, "", "")
    assert done.stderr.count("blockdiff: note: version 2: ") == len(done.stderr.splitlines()) == 2


# a set that was renamed, and a manifest of another set


def renamed(store, base):
    """Rename all files of a set, as a person does."""
    for name in os.listdir(store.folder):
        if name.startswith(store.base + "."):
            os.rename(os.path.join(store.folder, name), os.path.join(store.folder, base + name[len(store.base) :]))
    return BackupSet(os.path.join(store.folder, base))


def test_a_renamed_set_counts_and_goes_on(tmp_path):
    some = volumes(6)
    source = tmp_path / "source"
    source.write_bytes(some[2])
    store = renamed(written(tmp_path, some[:2], "old"), "new")
    assert listed(store) == {1: (True, ""), 2: (True, "up to version 2 this set was called 'old'")}
    notes = []

    outcome = back_up(store.name, source, note=notes.append)

    assert (outcome.kind, outcome.exit_code, outcome.warnings) == ("incremental", 0, [])
    assert any("was called 'old'" in line for line in notes)
    source.write_bytes(some[3])
    back_up(store.name, source, full=True)
    store = renamed(store, "newer")
    for volume in some[4:]:
        source.write_bytes(volume)
        notes.clear()
        assert back_up(store.name, source, note=notes.append).kind == "incremental"
    assert notes == [], "it was told once"
    found = verify.verify(store)
    assert (found.exit_code, [v.restores for v in found.versions]) == (0, [True] * 6)
    assert [len(v.notes) for v in found.versions] == [0, 1, 0, 1, 0, 0]
    assert all(version.size == 10 * BLOCK for version in found.versions), "every manifest counts"
    for number, volume in enumerate(some, 1):
        assert restored(store.name, number, tmp_path / "out") == volume


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_version_of_another_set_is_ignored_with_a_note(number, tmp_path):
    """Its manifest says nothing about this set, though all its files are whole."""
    store = written(tmp_path, volumes(3))
    other = written(tmp_path, volumes(3), "other")
    for suffix in other.listing().versions[number]:
        shutil.copy(other.path(number, suffix), store.path(number, suffix))

    found = verify.verify(store)

    assert f"{store.path(number, '.json')} is of the set 'other' and is ignored" in found.versions[number - 1].notes
    assert found.versions[number - 1].size is None, "it counts as one without a manifest"
    assert "of the set 'other'" in listed(store)[number][1]
    if number < 3:
        assert any(isinstance(fault, ChainBroken) for fault in found.versions[number].faults)
        assert not listed(store)[number + 1][0]


def test_a_manifest_alone_that_was_copied_from_another_set_does_not_count(tmp_path):
    """Even if its digest file is the same."""
    some = volumes(2)
    store, other = written(tmp_path, some), written(tmp_path, some, "other")
    shutil.copy(other.path(2, ".json"), store.path(2, ".json"))

    found = verify.verify(store)

    assert all(v.restores for v in found.versions)
    assert any("of the set 'other'" in line for line in found.versions[1].notes)
    assert [v.size for v in found.versions] == [10 * BLOCK, None]


# sizes of the whole chain


@pytest.mark.parametrize("number", [1, 2])
def test_a_diff_file_that_was_cut_short_is_not_built_upon(number, tmp_path):
    some = volumes(4)
    store = written(tmp_path, some[:3])
    path = store.path(number, ".gz")
    os.truncate(path, 100)
    source = tmp_path / "source"
    source.write_bytes(some[3])

    assert [restores for restores, _ in listed(store).values()] == [n < number for n in (1, 2, 3)]
    assert f"{path} is damaged: it has 100 bytes" in listed(store)[number][1]
    assert listed(store)[3][1] == f"version {number} is damaged"
    with pytest.raises(DamagedFile, match=r"it has 100 bytes"):
        back_up(store.name, source, auto_full=False)
    outcome = back_up(store.name, source)

    assert (outcome.version, outcome.kind, outcome.exit_code) == (4, "full", 3)
    assert path in outcome.warnings[0]
    assert restored(store.name, 4, tmp_path / "out") == some[3]
    assert listed(store)[4] == (True, "")


SIZES = [
    (codecs.PLAIN, "full", lambda size: 0),
    (codecs.PLAIN, "full", lambda size: size - 8 - BLOCK),  # a whole record less
    (codecs.PLAIN, "full", lambda size: size - BLOCK),  # an offset without a block
    (codecs.PLAIN, "full", lambda size: size + 9),
    (codecs.PLAIN, "incremental", lambda size: 3),
    (codecs.PLAIN, "incremental", lambda size: 4 + 5),
    (codecs.GZIP, "full", lambda size: 0),
    (codecs.GZIP, "incremental", lambda size: 19),
]


@pytest.mark.parametrize("codec, kind, cut", SIZES)
def test_a_file_of_the_originals_that_cannot_be_whole_is_not_built_upon(codec, kind, cut, tmp_path):
    some = volumes(3)
    store = written(tmp_path, some[:2], codec=codec, original=True)
    path = store.path(1 if kind == "full" else 2, codec.suffix)
    os.truncate(path, cut(os.path.getsize(path)))
    (tmp_path / "source").write_bytes(some[2])

    assert not listed(store)[2][0]
    outcome = back_up(store.name, tmp_path / "source")

    assert (outcome.kind, outcome.exit_code) == ("full", 3)
    assert restored(store.name, 3, tmp_path / "out") == some[2]


def test_every_golden_set_has_sizes_that_can_be():
    for folder in sorted(path for path in GOLDEN.iterdir() if path.is_dir()):
        assert all(restores for restores, _ in listed(BackupSet(str(folder / folder.name))).values()), folder


# what a run stands on, while it lasts


def altered(path, how):
    if how == "removed":
        os.unlink(path)
        return
    data = bytearray(pathlib.Path(path).read_bytes())
    data[-1] ^= 1
    if how == "replaced":
        os.unlink(path)
    pathlib.Path(path).write_bytes(data)


@pytest.mark.parametrize("how", ["removed", "replaced", "written"])
def test_a_digest_file_that_changes_in_the_middle_of_a_run(how, tmp_path):
    some = volumes(2)
    store = written(tmp_path, some[:1])
    (tmp_path / "source").write_bytes(some[1])

    def connect():
        altered(store.path(1, ".md5"), how)
        return local_agent()()

    with pytest.raises(DamagedFile) as caught:
        back_up(store.name, tmp_path / "source", connect=connect)

    assert caught.value.exit_code == 51
    assert isinstance(caught.value, MissingFile) == (how == "removed")
    assert store.path(1, ".md5") in str(caught.value)
    assert set(store.listing().versions) == {1} and not store.listing().parts


def test_a_digest_file_that_is_put_back_in_the_middle_of_a_run(tmp_path):
    """Another file of the same bytes is as good."""
    some = volumes(2)
    store = written(tmp_path, some[:1])
    (tmp_path / "source").write_bytes(some[1])

    def connect():
        path = store.path(1, ".md5")
        shutil.copy(path, tmp_path / "copy")
        os.replace(tmp_path / "copy", path)
        return local_agent()()

    assert back_up(store.name, tmp_path / "source", connect=connect).kind == "incremental"
    assert verify.verify(store).exit_code == 0


@pytest.mark.parametrize("suffix", [".md5", ".gz"])
def test_what_a_foreign_program_run_stands_on(suffix, run, tmp_path):
    """The program removes it: 51, nothing published, and no traceback."""
    store = written(tmp_path, volumes(1))
    source = tmp_path / "source"
    source.write_bytes(volumes(1)[0])
    program = tmp_path / "dump"
    dump = places.ROOT / "bin" / "blockdiff-dump"
    program.write_text(f'#!/bin/sh\nrm "{store.path(1, suffix)}"\nexec "{dump}" "$@"\n')
    program.chmod(0o755)

    done = run("blockdiff-backup", store.name, program, source)

    assert done.returncode == 51, done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"blockdiff: {store.path(1, suffix)} is missing")
    assert "Traceback" not in done.stderr
    assert store.newest() == 1 and not store.listing().parts and set(store.listing().versions) == {1}
