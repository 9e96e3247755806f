"""A backup straight into a real object store: what is written, by how many requests, and what is left of it when
the way to the store ends at any of them.
"""

import contextlib
import json
import os
import subprocess
import threading

import pytest
from engine import back_up, files_of, restored
from programs import until

from blockdiff.errors import BlockdiffError
from blockdiff.place import bucket as buckets
from blockdiff.place import choose, lease, upload
from blockdiff.sets.backupset import BackupSet

pytestmark = pytest.mark.store

BLOCK = 4096
FULL = ["db.1.gz", "db.1.idx", "db.1.json", "db.1.md5", "db.1.xxh128"]
ON = 1000  # requests that follow


@pytest.fixture
def way(store_environment, cuts, monkeypatch):
    """Let this process reach the store through `cuts` only, and try each request once."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", cuts.url)
    monkeypatch.setitem(buckets.Bucket.__init__.__kwdefaults__, "retries", 0)
    monkeypatch.setattr(lease, "RETRIES", 0)
    return cuts


@pytest.fixture
def died(monkeypatch):
    """Let a lease be old at once."""
    monkeypatch.setattr(lease, "DEAD_S", -1)


@pytest.fixture
def volume(tmp_path):
    path = tmp_path / "volume"
    path.write_bytes(os.urandom(20 * BLOCK + 7))
    return path


def change(volume, at):
    with open(volume, "r+b") as file:
        file.seek(at * BLOCK)
        file.write(os.urandom(BLOCK))
    return volume.read_bytes()


def run(name, volume, **options):
    return back_up(name, volume, block_size=BLOCK, snapshot="none", live=True, **options)


def versions(name):
    return sorted(BackupSet(name).listing().versions)


def keys(objectstore, bucket):
    return [one["Key"] for one in objectstore.client.list_objects_v2(Bucket=bucket).get("Contents", [])]


def uploads(objectstore, bucket):
    return objectstore.client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])


def copied(objectstore, bucket, folder):
    """Fetch all objects with a program of the distribution; returns the folder."""
    environment = {
        **os.environ, **objectstore.environment, "RCLONE_S3_PROVIDER": "Ceph", "RCLONE_S3_ENV_AUTH": "true",
        "RCLONE_S3_ENDPOINT": objectstore.endpoint, "RCLONE_CONFIG": "/dev/null",
    }  # fmt: skip
    environment.pop("AWS_CA_BUNDLE", None)
    command = ["rclone", "copy", f":s3:{bucket}", folder, "--exclude", "*.lease-*"]
    subprocess.run(command, env=environment, check=True, stdin=subprocess.DEVNULL)
    return folder


def test_what_is_stored_is_byte_for_byte_what_a_folder_would_have(
    way, objectstore, bucket, volume, tmp_path, run_verb, monkeypatch
):
    monkeypatch.setattr(upload, "PART_SIZE", 5 << 20)
    name, counts = f"s3://{bucket}/db", []
    (tmp_path / "here").mkdir()
    for number in (1, 2, 3):
        run(tmp_path / "here" / "db", volume)
        way.reset()
        done = run(name, volume)
        assert (done.version, done.warnings) == (number, [])
        counts.append(way.kinds())
        change(volume, number)
    there, here = files_of(copied(objectstore, bucket, tmp_path / "there")), files_of(tmp_path / "here")
    assert set(there) == set(here) - {"db.lock"}
    for file, data in there.items():
        if not file.endswith(".json"):
            assert data == here[file], file
            continue
        own, other = json.loads(data), json.loads(here[file])
        for key in ("begun", "ended", "bytes", "self_sha256"):
            own.pop(key), other.pop(key)
        assert own == other
    assert run_verb("verify", tmp_path / "there" / "db").returncode == 0
    # 3 lists of objects and one of uploads, the lease 3 times, what an upload has besides its parts, 5 other files;
    # then the lease's older object, and NAME.ver and three files of the version before
    assert [sum(kinds.values()) - kinds["UploadPart"] for kinds in counts] == [15, 20, 20]


def cut(way, name, volume, first, kind):
    """Back up over a way that ends at a request; returns that request, None if it did not come."""
    choose._store.cache_clear()
    way.reset(**{f"n{first}": kind}, **{f"n{first + more}": "before" for more in range(1, ON)})
    with contextlib.suppress(BlockdiffError):
        run(name, volume)
    came = way.log[first - 1] if len(way.log) >= first else None
    way.reset()
    choose._store.cache_clear()
    return came


@pytest.mark.parametrize("before", [0, 1])
def test_a_way_that_ends_at_any_request_leaves_the_new_version_or_none(
    way, died, objectstore, bucket, volume, tmp_path, before
):
    older = [volume.read_bytes()] if before else []
    if before:
        run(f"s3://{bucket}/first/db", volume)
    template = keys(objectstore, bucket)

    def one(first, kind):
        prefix = f"{kind}{first}"
        for key in template:
            source = {"Bucket": bucket, "Key": key}
            objectstore.client.copy_object(Bucket=bucket, Key=key.replace("first", prefix), CopySource=source)
        name, tried = f"s3://{bucket}/{prefix}/db", change(volume, 7)
        came = cut(way, name, volume, first, kind)
        newer = [tried, change(volume, 9)]
        done = run(name, volume)
        numbers = versions(name)
        contents = older + newer[before - len(numbers) :]
        assert BackupSet(name).newest() == numbers[-1] == done.version
        for number, content in zip(numbers, contents, strict=True):
            assert restored(name, number, tmp_path / "out") == content, (first, kind, came)
        return came

    first, came = 1, one(1, "before")
    while came:
        if came.method not in ("GET", "HEAD"):  # of those, all that the store has is the same as before
            one(first, "after")
        first += 1
        came = one(first, "before")
    assert uploads(objectstore, bucket) == []


class Stopped:
    """A run in a thread of which one request stays on its way to the store."""

    def __init__(self, way, name, volume, number):
        self.arrived, self.gate, self.error = threading.Event(), threading.Event(), None
        choose._store.cache_clear()
        way.reset(**{f"n{number}": self.hold})
        self.thread = threading.Thread(target=self.run, args=(name, volume))
        self.thread.start()
        until(lambda: self.arrived.is_set() or not self.thread.is_alive())
        choose._store.cache_clear()

    def hold(self):
        self.arrived.set()
        assert self.gate.wait(60)

    def run(self, name, volume):
        try:
            run(name, volume)
        except BlockdiffError as error:
            self.error = error

    def go_on(self):
        self.gate.set()
        self.thread.join()
        choose._store.cache_clear()


@pytest.mark.parametrize("before", [0, 1])
def test_of_two_runs_one_that_stopped_at_any_write_makes_no_mixed_version(
    way, died, objectstore, bucket, volume, tmp_path, monkeypatch, before
):
    """The other one goes through while a write of the first is on its way; then that arrives, and the first goes on."""
    other = tmp_path / "other"
    other.write_bytes(os.urandom(20 * BLOCK + 7))
    old = volume.read_bytes()
    if before:
        run(f"s3://{bucket}/first/db", volume)
    template = keys(objectstore, bucket)

    def prepared(prefix):
        for key in template:
            source = {"Bucket": bucket, "Key": key}
            objectstore.client.copy_object(Bucket=bucket, Key=key.replace("first", prefix), CopySource=source)
        return f"s3://{bucket}/{prefix}/db"

    new = change(volume, 3)
    way.reset()
    run(prepared("all"), volume)
    writes = [number for number, request in enumerate(way.log, 1) if request.method not in ("GET", "HEAD")]
    assert len(writes) == 11 + before
    for number in writes:
        name = prepared(str(number))
        monkeypatch.setenv("AWS_ENDPOINT_URL", way.url)
        one = Stopped(way, name, volume, number)
        assert one.arrived.is_set()
        monkeypatch.setenv("AWS_ENDPOINT_URL", objectstore.endpoint)
        done = run(name, other)
        one.go_on()
        assert one.error is None or one.error.exit_code in (12, 15), number
        newest = run(name, other).version
        found = versions(name)
        contents = {n: restored(name, n, tmp_path / "out") for n in found}
        assert contents.pop(found[0], None) == old if before else True
        assert contents[done.version] == contents[newest] == other.read_bytes()
        assert set(contents.values()) <= {new, other.read_bytes()}, number
        assert found[-1] == newest == BackupSet(name).newest()
