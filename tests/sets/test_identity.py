"""A set goes on with its own volume: another one is refused, and so is one that cannot have room."""

import contextlib
import functools
import json
import os
import sys

import chains
import numbers_line
import pytest
from engine import back_up, local_agent
from hostile import Played, hello, put_together, raw, talk
from launched import Set, loop_device, needs

from blockdiff import backup, codecs
from blockdiff.errors import NoRoom, SnapshotRefused, SourceChanged
from blockdiff.formats import manifest
from blockdiff.ingest.job import Job
from blockdiff.sets import identity
from blockdiff.sets.backupset import BackupSet
from blockdiff.source.wanted import NONE, Wanted
from blockdiff.wire import messages

KIB = 1024
BLOCK = 64 * KIB
DONE = "backup completed successfully"
NO_SET, NO_ROOM, CHANGED, USAGE, NO_VOLUME, NO_PROGRAM, READ_FAILED = 10, 13, 37, 2, 30, 16, 33


@pytest.fixture
def begun(tmp_path):
    """A set with one version, and its source."""
    found = Set(tmp_path / "backups")
    found.source = tmp_path / "volume"
    found.source.write_bytes(os.urandom(8 * BLOCK))
    back_up(found.name, found.source)
    found.versions[1] = found.source.read_bytes()
    return found


@pytest.fixture
def call(run):
    """Run blockdiff-backup; returns (exit code, lines on stderr but for the first)."""

    def call(*words, **options):
        done = run("blockdiff-backup", *words, **options)
        lines = numbers_line.without(done.stderr.splitlines())
        return done.returncode, lines[1:] if lines[:1] and lines[0].startswith("running: ") else lines

    return call


def refused(begun, done, *words, code=CHANGED):
    old = begun.files()
    found, err = done()
    assert (found, len(err)) == (code, 1), err
    for word in words:
        assert str(word) in err[0]
    assert begun.files() == old
    begun.check()


# another place


@pytest.mark.parametrize("options", [[], ["--full"], ["--with", "{more}", "{volume}"]])
def test_another_volume_is_refused_by_name(begun, call, tmp_path, options):
    other = tmp_path / "other"
    other.write_bytes(os.urandom(8 * BLOCK))
    options = [word.format(more=tmp_path / "more", volume=other) for word in options]
    words = (f"version 1 is of {begun.source}, this is {other}", "--new-source")
    refused(begun, lambda: call(*options, "--quiet", begun.name, other), *words)
    assert not list(tmp_path.glob("more.[0-9v]*"))


def test_a_new_source_once(begun, call, tmp_path):
    """As after a move: what did not change is not stored again, and from then on it is the set's."""
    other = tmp_path / "moved"
    other.write_bytes(b"moved" + begun.source.read_bytes()[5:])
    assert call("--new-source", begun.name, other) == (0, [DONE])
    begun.versions[2] = other.read_bytes()
    told = json.loads((begun.folder / "db.2.json").read_text())
    assert (told["kind"], told["blocks"]["changed"], told["source"]["path"]) == ("incremental", 1, str(other))
    assert call(begun.name, other) == (0, [DONE])
    begun.versions[3] = other.read_bytes()
    refused(begun, lambda: call(begun.name, begun.source), f"version 3 is of {other}")


def test_other_spellings_of_a_path_are_the_same_volume(begun, call, tmp_path):
    (tmp_path / "link").symlink_to(begun.source)
    (tmp_path / "hard").hardlink_to(begun.source)
    for number, path in enumerate(("link", "hard", "backups/../volume", "volume"), 2):
        assert call(begun.name, path, cwd=tmp_path) == (0, [DONE])
        begun.versions[number] = begun.source.read_bytes()
    begun.check()


def test_a_block_device_by_another_name_is_the_same(tmp_path, call):
    image = tmp_path / "image"
    image.write_bytes(os.urandom(4 * BLOCK))
    found = Set(tmp_path / "device")
    with loop_device(image) as device:
        node = tmp_path / "node"
        os.mknod(node, 0o600 | 0o060000, os.stat(device).st_rdev)
        for path in (device, node):
            assert call(found.name, path) == (0, [DONE])


def with_source(begun, **changes):
    """Give the newest version another source in its manifest."""
    backup_set = BackupSet(begun.name)
    value = backup_set.read_manifest(begun.newest()).value
    value["source"].update(changes)
    with open(backup_set.path(begun.newest(), ".json"), "wb") as file:
        file.write(manifest.encode(value))
    return backup_set


def back_up_from(begun, host, **wanted):
    """Back up the source as if it were another host's; tells whether the agent was asked at all."""
    asked = []

    def connect():
        asked.append(True)
        return local_agent()()

    job = Job(BackupSet(begun.name), Wanted(path=str(begun.source), **wanted), connect, host=host)
    with contextlib.suppress(SourceChanged):
        backup.run(job, cores=1)
        return "done"
    return "asked" if asked else "refused before"


def test_another_host_is_refused_before_it_is_reached(begun):
    assert back_up_from(begun, "web") == "refused before"
    with_source(begun, host="web")
    assert back_up_from(begun, "Web") == "done"
    assert back_up_from(begun, "db") == "refused before"
    assert back_up_from(begun, "db", new_source=True) == "done"
    begun.versions.update(dict.fromkeys((2, 3), begun.source.read_bytes()))
    begun.check()


def test_a_volume_of_lvm_is_known_by_its_uuid(begun):
    backup_set = with_source(begun, host="db", path="/dev/vg0/x", lv_uuid="one")

    def check(host, path, uuid, same=False):
        found = identity.Check(backup_set, 1, host, path, False)
        found.before_connecting(uuid_comes=uuid is not None)
        found.see(8 * BLOCK, uuid, same)

    check("db", "/dev/vg0/x", "one")
    check("other", "/dev/mapper/vg1-y", "one")
    check("db", "/dev/vg0/x", None)  # read as it lives
    check("db", "/dev/mapper/vg0-x", None, same=True)
    for host, path, uuid in (("db", "/dev/vg0/x", "two"), ("db", "/dev/vg0/y", None), ("other", "/dev/vg0/x", None)):
        with pytest.raises(SourceChanged) as error:
            check(host, path, uuid)
        assert f"{host}:{path}" in str(error.value)
        assert "db:/dev/vg0/x" in str(error.value)
    # where the host may not be reached by its name any more, its UUID is asked for before that counts
    assert back_up_from(begun, "other", snapshot=NONE) == "refused before"
    assert back_up_from(begun, "other") == "asked"
    with_source(begun, path=str(begun.source))
    assert back_up_from(begun, "other") == "asked"  # it turns out to be a file, and another host's


# another size


@pytest.mark.parametrize("size", [0, 1, 4 * BLOCK, 32 * BLOCK + 1])
def test_a_size_that_is_another_volumes_is_refused(begun, call, size):
    good = begun.versions[1]
    os.truncate(begun.source, size)
    words = (f"version 1 is of a volume of {8 * BLOCK} bytes", f"this one has {size}", "--new-source")
    refused(begun, lambda: call(begun.name, begun.source), *words)
    refused(begun, lambda: call("--full", begun.name, begun.source), *words)
    assert call("--new-source", begun.name, begun.source) == (0, [DONE])
    begun.versions[2] = (good + bytes(max(0, size - len(good))))[:size]
    begun.check()


@pytest.mark.parametrize("size", [4 * BLOCK + 1, 32 * BLOCK])
def test_a_size_that_may_be(begun, call, size):
    os.truncate(begun.source, size)
    assert call(begun.name, begun.source) == (0, [DONE])


def test_a_command_that_dumps_another_size(begun, call, tmp_path):
    dump = tmp_path / "dump"
    dump.write_text(f'#!/bin/sh\nexec {sys.executable} -c "$PROGRAM" x\n')
    dump.chmod(0o755)
    data = b"x" * 100
    program = (
        "import os, hashlib\n"
        f"data = {data!r}\n"
        f"head = ({BLOCK}).to_bytes(4, 'little')\n"
        "os.write(1, head + bytes(8) + data); os.write(6, head + hashlib.md5(data).digest())\n"
    )
    env = {"PROGRAM": program}
    refused(begun, lambda: call(begun.name, dump, "x", env=env), "this one has 100")
    assert call("--new-source", begun.name, dump, "x", env=env) == (0, [DONE])
    begun.versions[2] = data
    begun.check()


def test_a_claimed_size_that_cannot_have_room(tmp_path, call):
    """Terabytes of holes in blocks of a byte: the digests alone would be hundreds of terabytes."""
    new = Set(tmp_path / "new")
    source = tmp_path / "holes"
    source.touch()
    os.truncate(source, 8 << 40)
    refused(new, lambda: call("--block-size", "1", new.name, source), "its volume has 8.0 TiB", "TiB here, and ", "B are free", code=NO_ROOM)
    assert new.files() == {}


def test_the_blocks_that_a_parent_has_cost_nothing_but_their_digests(begun, monkeypatch):
    class Full:
        f_bfree, f_bavail, f_frsize = 400, 400, 1

    monkeypatch.setattr(os, "statvfs", lambda path: Full)
    back_up(begun.name, begun.source, suffix="")  # 8 digests of each kind
    with pytest.raises(NoRoom):
        back_up(begun.name, begun.source, suffix="", full=True)


# a set that does not know


@pytest.mark.parametrize("options", [[], ["--full"]])
def test_a_set_of_the_original_says_once_what_it_is_of(tmp_path, call, options):
    found = Set(tmp_path / "old")
    found.source = tmp_path / "volume"
    data = os.urandom(8 * BLOCK)
    chains.write_version(BackupSet(found.name), data, BLOCK, codecs.GZIP, original=True)
    found.source.write_bytes(data[: 3 * BLOCK])
    found.versions[1] = data
    refused(found, lambda: call("-q", *options, found.name, found.source), f"this one has {3 * BLOCK}")
    found.source.write_bytes(data)
    code, err = call(*options, found.name, found.source)
    assert (code, len(err), err[-1]) == (0, 2, DONE)
    assert str(found.source) in err[0]
    assert call(*options, found.name, found.source) == (0, [DONE])
    chains.write_version(BackupSet(found.name), data, BLOCK, codecs.GZIP, original=True)
    assert call(*options, found.name, found.source) == (0, [DONE])


# names


@pytest.mark.parametrize("end", ["", "/"])
def test_a_folder_is_no_name(begun, call, end):
    name = f"{begun.folder}{end}"
    refused(begun, lambda: call(name, begun.source), f"a set in it is named such as {begun.folder}/volume", code=NO_SET)
    refused(begun, lambda: call(name, "--", "prog"), "that is a folder", code=NO_SET)
    assert not [path.name for path in begun.folder.parent.iterdir() if path.name.endswith(".lock")]


def test_a_set_beside_a_folder_of_its_name_goes_on(begun, call):
    (begun.folder / "db").mkdir()
    assert call(begun.name, begun.source) == (0, [DONE])


def test_a_set_beside_the_file_that_it_is_of(tmp_path, call):
    (tmp_path / "img").write_bytes(b"image")
    assert call("img", "img", cwd=tmp_path) == (0, [DONE])


@pytest.mark.parametrize(
    "words",
    [["{source}", "{folder}/new"], ["{source}", "{folder}"], ["/dev/null", "{source}"], ["root@web:/dev/x", "{source}"]],
)
def test_arguments_in_the_wrong_order(begun, call, words):
    words = [word.format(source=begun.source, folder=begun.folder) for word in words]
    refused(begun, lambda: call(*words), words[0], "NAME comes first", code=NO_SET)
    assert not list(begun.folder.parent.glob("*.lock")) and not os.path.exists("/dev/null.lock")


def test_a_set_is_named_once(begun, call, tmp_path):
    (tmp_path / "same").symlink_to(begun.folder)
    for other in (begun.name, f"{begun.folder}/../backups/db", tmp_path / "same" / "db"):
        code, err = call("--with", other, begun.source, begun.name, begun.source)
        assert code == USAGE
        assert "named twice" in err[-1]
    begun.check()


def test_two_sources_are_not_a_command(begun, call):
    for words in ([begun.source, begun.source], ["root@web:/dev/sda", "root@web:/dev/sdb"], [begun.source, "--full", "x"]):
        code, err = call(begun.name, *words)
        assert code == USAGE
        assert "takes one source" in err[-1] and "--with" in err[-1]
    code, err = call(begun.name, "/nowhere/prog", begun.source)
    assert (code, "--with" in err[-1]) == (NO_PROGRAM, True)
    begun.check()


# errors among several


def test_errors_name_the_set_and_the_source(begun, call, tmp_path):
    missing = tmp_path / "missing"
    why = f"blockdiff: {begun.name} from {missing}: no such volume: {missing}: No such file or directory"
    assert call("-q", "--new-source", begun.name, missing) == (NO_VOLUME, [why])
    assert call("-q", "--with", tmp_path / "more", begun.source, "--new-source", begun.name, missing) == (
        NO_VOLUME, [why],
    )  # fmt: skip
    code, err = call("-q", begun.name, "/nowhere/prog", "x")
    assert (code, err[0].split(": ")[1]) == (NO_PROGRAM, f"{begun.name} from /nowhere/prog")


def test_a_snapshot_that_fails_among_others_names_its_source(tmp_path):
    ready = talk(messages.READY, size=100, kind="lvm-thick", lv_uuid="x", same=True, room=None)
    refuses = talk(messages.FAILED, error="SnapshotRefused", args=["/dev/vg/b", "no"])
    jobs = []
    for label, answer in (("a", talk(messages.TAKEN)), ("b", refuses)):
        stream = put_together([hello(), ready, answer])
        connect = functools.partial(Played, stream, endless=raw(messages.PING))
        wanted = Wanted(path=f"/dev/vg/{label}", timeout_s=5.0)
        jobs.append(Job(BackupSet(str(tmp_path / label)), wanted, connect, label=label))
    with pytest.raises(SnapshotRefused) as error:
        backup.run_all(jobs, cores=1)
    assert error.value.about == "b"


def test_json_of_a_run_that_fails(begun, run, tmp_path):
    done = run("blockdiff-backup", "--json", "--new-source", begun.name, tmp_path / "missing")
    assert done.returncode == NO_VOLUME
    assert json.loads(done.stdout)["error"]["class"] == "NoSuchVolume"


def test_json_of_one_that_fails_among_others(begun, run, tmp_path):
    """It has an object of its own, in one line, as every other has."""
    needs("strace")
    other = tmp_path / "other"
    other.write_bytes(os.urandom(40 * BLOCK))
    calls = "preadv,preadv2,pread64"
    fault = f"strace -f -qq -o {tmp_path}/trace -P {other} -e trace={calls} -e inject={calls}:error=EIO"
    more = tmp_path / "more"
    words = ["--json", "-q", "--with", more, other, begun.name, begun.source]
    done = run("blockdiff-backup", *words, env={"SSH_BLOCKDIFF_PREFIX": fault})
    assert done.returncode == READ_FAILED, done.stderr
    first, second = map(json.loads, done.stdout.splitlines())
    assert (first["name"], first["version"]) == (begun.name, 2)
    assert (second["name"], second["error"]["class"]) == (str(more), "ReadFailed")
    assert done.stderr.startswith(f"blockdiff: {more} from {other}: cannot read {other}: ")
