"""Which files of a set count, and what continues them: stale manifests, renamed sets, sizes that cannot be."""

import os
import pathlib
import shutil
import subprocess

import chains
import places
import pytest
from engine import back_up, local_agent, restored

from blockdiff import codecs, verify
from blockdiff.errors import ChainBroken, DamagedFile, MissingFile
from blockdiff.sets import catalogue
from blockdiff.sets.backupset import BackupSet

BLOCK = 64
GOLDEN = places.GOLDEN


def volumes(count):
    """Volumes of one size, each with another first block than the one before."""
    rest = os.urandom(9 * BLOCK)
    return [os.urandom(BLOCK) + rest for _ in range(count)]


def written(folder, some, base="vol", **options):
    backup_set = chains.new_set(folder, base)
    for volume in some:
        chains.write_version(backup_set, volume, BLOCK, **options)
    return backup_set


def listed(backup_set):
    """{version: (restores, why)}."""
    return {entry.number: (entry.restores, entry.why) for entry in catalogue.describe(backup_set).versions}


# a manifest that something overwrote


def stale(folder):
    """A set whose version 2 is the original's, beside what a run of ours left; and the volume of version 2."""
    one, two, theirs = volumes(3)
    backup_set = written(folder, [one, two])
    backup_set.publish_ver(1)
    chains.write_version(backup_set, theirs, BLOCK, original=True)
    return backup_set, theirs


def test_a_stale_manifest_is_told_with_the_command_that_removes_it(tmp_path):
    backup_set, theirs = stale(tmp_path)

    found = verify.verify(backup_set)

    assert (found.exit_code, [v.restores for v in found.versions]) == (0, [True, True])
    ignored, removed = found.versions[1].notes
    assert "ignored" in ignored and not found.versions[0].notes
    command = removed.split("to remove what is ignored: ")[1]
    assert command == f"rm {' '.join(backup_set.path(2, suffix) for suffix in ('.json', '.idx', '.xxh128'))}"
    subprocess.run(command, shell=True, check=True)
    again = verify.verify(backup_set)
    assert (again.exit_code, [v.restores for v in again.versions]) == (0, [True, True])
    assert not any(v.notes for v in again.versions)
    assert restored(backup_set.name, 2, tmp_path / "out") == theirs


def test_what_is_ignored_of_a_damaged_version_is_not_to_be_removed(tmp_path):
    backup_set, _ = stale(tmp_path)
    os.truncate(backup_set.path(2, ".gz"), os.path.getsize(backup_set.path(2, ".gz")) - 9)

    found = verify.verify(backup_set)

    assert found.exit_code != 0 and found.versions[1].faults
    assert len(found.versions[1].notes) == 1 and "rm " not in found.versions[1].notes[0]


def test_a_stale_manifest_is_a_note_on_stderr_and_none_when_quiet(run, tmp_path):
    backup_set, _ = stale(tmp_path)
    env = {"XDG_STATE_HOME": str(tmp_path / "state")}
    done, quiet = run("blockdiff-verify", backup_set.name, env=env), run("blockdiff-verify", "-q", backup_set.name, env=env)
    assert (done.returncode, quiet.returncode, quiet.stderr, quiet.stdout) == (0, 0, "", "")
    assert done.stderr.count("blockdiff: note: version 2: ") == len(done.stderr.splitlines()) == 2


# a set that was renamed, and a manifest of another set


def renamed(backup_set, base):
    """Rename all files of a set, as a person does."""
    for name in os.listdir(backup_set.folder):
        if name.startswith(backup_set.base + "."):
            os.rename(os.path.join(backup_set.folder, name), os.path.join(backup_set.folder, base + name[len(backup_set.base) :]))
    return BackupSet(os.path.join(backup_set.folder, base))


def test_a_renamed_set_counts_and_goes_on(tmp_path):
    some = volumes(6)
    source = tmp_path / "source"
    source.write_bytes(some[2])
    backup_set = renamed(written(tmp_path, some[:2], "old"), "new")
    assert listed(backup_set) == {1: (True, ""), 2: (True, "up to version 2 this set was called 'old'")}
    notes = []

    outcome = back_up(backup_set.name, source, note=notes.append)

    assert (outcome.kind, outcome.exit_code, outcome.warnings) == ("incremental", 0, [])
    assert any("was called 'old'" in line for line in notes)
    source.write_bytes(some[3])
    back_up(backup_set.name, source, full=True)
    backup_set = renamed(backup_set, "newer")
    for volume in some[4:]:
        source.write_bytes(volume)
        notes.clear()
        assert back_up(backup_set.name, source, note=notes.append).kind == "incremental"
    assert notes == [], "it was told once"
    found = verify.verify(backup_set)
    assert (found.exit_code, [v.restores for v in found.versions]) == (0, [True] * 6)
    assert [len(v.notes) for v in found.versions] == [0, 1, 0, 1, 0, 0]
    assert all(version.size == 10 * BLOCK for version in found.versions), "every manifest counts"
    for number, volume in enumerate(some, 1):
        assert restored(backup_set.name, number, tmp_path / "out") == volume


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_version_of_another_set_is_ignored_with_a_note(number, tmp_path):
    """Its manifest says nothing about this set, though all its files are whole."""
    backup_set = written(tmp_path, volumes(3))
    other = written(tmp_path, volumes(3), "other")
    for suffix in other.listing().versions[number]:
        shutil.copy(other.path(number, suffix), backup_set.path(number, suffix))

    found = verify.verify(backup_set)

    assert f"{backup_set.path(number, '.json')} is of the set 'other' and is ignored" in found.versions[number - 1].notes
    assert found.versions[number - 1].size is None, "it counts as one without a manifest"
    assert "of the set 'other'" in listed(backup_set)[number][1]
    if number < 3:
        assert any(isinstance(fault, ChainBroken) for fault in found.versions[number].faults)
        assert not listed(backup_set)[number + 1][0]


def test_a_manifest_alone_that_was_copied_from_another_set_does_not_count(tmp_path):
    """Even if its digest file is the same."""
    some = volumes(2)
    backup_set, other = written(tmp_path, some), written(tmp_path, some, "other")
    shutil.copy(other.path(2, ".json"), backup_set.path(2, ".json"))

    found = verify.verify(backup_set)

    assert all(v.restores for v in found.versions)
    assert any("of the set 'other'" in line for line in found.versions[1].notes)
    assert [v.size for v in found.versions] == [10 * BLOCK, None]


# sizes of the whole chain


@pytest.mark.parametrize("number", [1, 2])
def test_a_diff_file_that_was_cut_short_is_not_built_upon(number, tmp_path):
    some = volumes(4)
    backup_set = written(tmp_path, some[:3])
    path = backup_set.path(number, ".gz")
    os.truncate(path, 100)
    source = tmp_path / "source"
    source.write_bytes(some[3])

    assert [restores for restores, _ in listed(backup_set).values()] == [n < number for n in (1, 2, 3)]
    assert f"{path} is damaged: it has 100 bytes" in listed(backup_set)[number][1]
    assert listed(backup_set)[3][1] == f"version {number} is damaged"
    with pytest.raises(DamagedFile, match=r"it has 100 bytes"):
        back_up(backup_set.name, source, auto_full=False)
    outcome = back_up(backup_set.name, source)

    assert (outcome.version, outcome.kind, outcome.exit_code) == (4, "full", 3)
    assert path in outcome.warnings[0]
    assert restored(backup_set.name, 4, tmp_path / "out") == some[3]
    assert listed(backup_set)[4][0]


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
    backup_set = written(tmp_path, some[:2], codec=codec, original=True)
    path = backup_set.path(1 if kind == "full" else 2, codec.suffix)
    os.truncate(path, cut(os.path.getsize(path)))
    (tmp_path / "source").write_bytes(some[2])

    assert not listed(backup_set)[2][0]
    outcome = back_up(backup_set.name, tmp_path / "source")

    assert (outcome.kind, outcome.exit_code) == ("full", 3)
    assert restored(backup_set.name, 3, tmp_path / "out") == some[2]


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
    backup_set = written(tmp_path, some[:1])
    (tmp_path / "source").write_bytes(some[1])

    def connect():
        altered(backup_set.path(1, ".md5"), how)
        return local_agent()()

    with pytest.raises(DamagedFile) as caught:
        back_up(backup_set.name, tmp_path / "source", connect=connect)

    assert caught.value.exit_code == 51
    assert isinstance(caught.value, MissingFile) == (how == "removed")
    assert backup_set.path(1, ".md5") in str(caught.value)
    assert set(backup_set.listing().versions) == {1} and not backup_set.listing().parts


def test_a_digest_file_that_is_put_back_in_the_middle_of_a_run(tmp_path):
    """Another file of the same bytes is as good."""
    some = volumes(2)
    backup_set = written(tmp_path, some[:1])
    (tmp_path / "source").write_bytes(some[1])

    def connect():
        path = backup_set.path(1, ".md5")
        shutil.copy(path, tmp_path / "copy")
        os.replace(tmp_path / "copy", path)
        return local_agent()()

    assert back_up(backup_set.name, tmp_path / "source", connect=connect).kind == "incremental"
    assert verify.verify(backup_set).exit_code == 0


@pytest.mark.parametrize("suffix", [".md5", ".gz"])
def test_what_a_foreign_program_run_stands_on(suffix, run, tmp_path):
    """The program removes it: 51, nothing published, and no traceback."""
    backup_set = written(tmp_path, volumes(1))
    source = tmp_path / "source"
    source.write_bytes(volumes(1)[0])
    program = tmp_path / "dump"
    dump = places.ROOT / "bin" / "blockdiff-dump"
    program.write_text(f'#!/bin/sh\nrm "{backup_set.path(1, suffix)}"\nexec "{dump}" "$@"\n')
    program.chmod(0o755)

    done = run("blockdiff-backup", backup_set.name, program, source)

    assert done.returncode == 51, done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"blockdiff: {backup_set.path(1, suffix)} is missing")
    assert "Traceback" not in done.stderr
    assert backup_set.newest() == 1 and not backup_set.listing().parts and set(backup_set.listing().versions) == {1}
