"""A backup straight into a real object store: what is written, and what is left when it ends at any request."""

import contextlib
import json
import os
import subprocess
import threading

import nights
import pytest
import verbs
from botocore.exceptions import ClientError
from engine import back_up, files_of, restored
from programs import Program, until

from blockdiff.errors import BlockdiffError, ForeignFiles, NoRoom, Sealed, StoreFailed
from blockdiff.place import bucket as buckets
from blockdiff.place import choose, lease, s3, upload
from blockdiff.sets import catalogue
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
    volume.write_bytes(os.urandom(1100 * BLOCK + 7))  # its digests are larger than what one request gets anyway
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
    assert [sum(kinds.values()) - kinds["UploadPart"] for kinds in counts] == [14, 19, 19]


def prepared(objectstore, bucket, template, prefix):
    """Put a copy of objects that begin with first/ under another prefix; returns the name of the set there."""
    for key in template:
        source = {"Bucket": bucket, "Key": key}
        objectstore.client.copy_object(Bucket=bucket, Key=key.replace("first", prefix), CopySource=source)
    return f"s3://{bucket}/{prefix}/db"


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


@pytest.mark.parametrize("before, kind", [(0, "after"), (1, "before")])
def test_a_way_that_ends_at_any_request_leaves_the_new_version_or_none(
    way, died, objectstore, bucket, volume, tmp_path, before, kind
):
    """Where it ends after a request that only reads, the store has what it would have before that."""
    older = [volume.read_bytes()] if before else []
    if before:
        run(f"s3://{bucket}/first/db", volume)
    template = keys(objectstore, bucket)

    def one(first):
        name, tried = prepared(objectstore, bucket, template, str(first)), change(volume, 7)
        came = cut(way, name, volume, first, kind)
        newer = [tried, change(volume, 9)]
        done = run(name, volume)
        numbers = versions(name)
        contents = older + newer[before - len(numbers) :]
        if kind == "after" and came.key.endswith((".json", ".ver")):
            assert len(numbers) == before + 2  # it was there, and is not made once more
        assert BackupSet(name).newest() == numbers[-1] == done.version
        for number, content in zip(numbers, contents, strict=True):
            assert restored(name, number, tmp_path / "out") == content, (first, kind, came)
        return came

    way.reset()
    run(prepared(objectstore, bucket, template, "counted"), volume)
    requests = list(way.log)
    for number, request in enumerate(requests, 1):
        if kind == "before" or request.method not in ("GET", "HEAD"):
            assert one(number).kind == request.kind
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


def test_of_two_runs_one_that_stopped_at_any_write_makes_no_mixed_version(
    way, died, objectstore, bucket, volume, tmp_path, monkeypatch
):
    """The other one goes through while a write of the first is on its way; then that arrives, and the first goes on."""
    other = tmp_path / "other"
    other.write_bytes(os.urandom(20 * BLOCK + 7))
    old = volume.read_bytes()
    run(f"s3://{bucket}/first/db", volume)
    template = keys(objectstore, bucket)
    new = change(volume, 3)
    way.reset()
    run(prepared(objectstore, bucket, template, "all"), volume)
    writes = [number for number, request in enumerate(way.log, 1) if request.method not in ("GET", "HEAD")]
    assert len(writes) == 12
    for number in writes:
        name = prepared(objectstore, bucket, template, str(number))
        monkeypatch.setenv("AWS_ENDPOINT_URL", way.url)
        one = Stopped(way, name, volume, number)
        assert one.arrived.is_set()
        monkeypatch.setenv("AWS_ENDPOINT_URL", objectstore.endpoint)
        done = run(name, other)
        one.go_on()
        assert one.error is None or one.error.exit_code == 12, (number, one.error)
        newest = run(name, other).version
        found = versions(name)
        contents = {n: restored(name, n, tmp_path / "out") for n in found}
        assert contents.pop(1) == old
        assert contents[done.version] == contents[newest] == other.read_bytes()
        assert set(contents.values()) <= {new, other.read_bytes()}, number
        assert one.error is not None or new in contents.values(), number
        assert found[-1] == newest == BackupSet(name).newest()


def test_a_removal_that_arrives_late_is_of_no_version(
    way, died, objectstore, bucket, volume, tmp_path, monkeypatch
):
    """A run stops while it removes what a dead one left, another one goes through, and then that removal arrives."""
    dead = f"s3://{bucket}/first/db"
    run(dead, volume)
    old = volume.read_bytes()
    new = change(volume, 3)
    way.reset()
    run(prepared(objectstore, bucket, keys(objectstore, bucket), "counted"), volume)
    sheet = next(n for n, request in enumerate(way.log, 1) if request.key.endswith(".json") and request.method == "PUT")
    cut(way, dead, volume, sheet, "before")
    template = [key for key in keys(objectstore, bucket) if key.startswith("first/")]
    way.reset()
    assert run(prepared(objectstore, bucket, template, "all"), volume).version == 3
    removals = [n for n, request in enumerate(way.log, 1) if request.kind == "DeleteObject" and "lease" not in request.key]
    assert len(removals) == 4
    for number in (removals[0], removals[-1]):
        name = prepared(objectstore, bucket, template, str(number))
        monkeypatch.setenv("AWS_ENDPOINT_URL", way.url)
        one = Stopped(way, name, volume, number)
        monkeypatch.setenv("AWS_ENDPOINT_URL", objectstore.endpoint)
        done = run(name, volume)
        one.go_on()
        assert restored(name, 1, tmp_path / "out") == old
        assert restored(name, done.version, tmp_path / "out") == new


def test_a_killed_run_leaves_one_open_upload_which_the_next_one_cancels(
    objectstore, bucket, cuts, volume, run_verb, store_environment, tmp_path
):
    name, arrived, gate = f"s3://{bucket}/db", threading.Event(), threading.Event()

    def hold():
        arrived.set()
        gate.wait(60)

    cuts.reset(n6=hold)  # when a part is on its way
    environment = {**verbs.environment(tmp_path), **objectstore.environment, "AWS_ENDPOINT_URL": cuts.url}
    with Program(verbs.words("backup", name, volume), env=environment, stderr=subprocess.DEVNULL) as program:
        assert arrived.wait(60)
        assert cuts.log[-1].kind == "UploadPart"
        program.kill()
    gate.set()
    other = upload_of(objectstore, bucket, "db.11.1.gz")  # of another set
    assert keys(objectstore, bucket) == ["db.lease-1"] and len(uploads(objectstore, bucket)) == 2
    assert run_verb("list", f"s3://{bucket}/", env=objectstore.environment).out == "no sets\n"
    refused = run_verb("backup", name, volume, env=objectstore.environment)
    assert refused.returncode == 12 and "--break-lease" in refused.err and f"process {program.pid}," in refused.err
    done = run_verb("backup", "--break-lease", name, volume, env=objectstore.environment)
    assert (done.returncode, keys(objectstore, bucket)) == (0, [*FULL, "db.lease-2", "db.ver"])
    assert [one["UploadId"] for one in uploads(objectstore, bucket)] == [other]


def upload_of(objectstore, bucket, key):
    return objectstore.client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]


def test_files_of_others_are_not_touched(store_environment, objectstore, bucket, volume):
    name = f"s3://{bucket}/db"
    run(name, volume)
    objectstore.client.put_object(Bucket=bucket, Key="db.2.gz", Body=b"of another program")
    with pytest.raises(ForeignFiles, match=r"db\.2\.gz"):
        run(name, volume)
    assert "db.2.gz" in keys(objectstore, bucket)


def test_a_digest_file_that_is_too_large_for_the_store(store_environment, bucket, volume, monkeypatch):
    monkeypatch.setattr(s3.Store, "most_beside", 100)
    with pytest.raises(NoRoom, match="--block-size"):
        run(f"s3://{bucket}/db", volume)
    monkeypatch.setattr(s3.Store, "most_beside", 4 + 21 * 16)
    assert run(f"s3://{bucket}/db", volume).version == 1


def test_a_sealed_set_is_not_continued(store_environment, objectstore, bucket, volume):
    objectstore.client.put_object(Bucket=bucket, Key="db.1.md5.age", Body=b"sealed")
    with pytest.raises(Sealed):
        run(f"s3://{bucket}/db", volume)


def can_write(objectstore, bucket):
    """Return whether the store has seen that there is room."""
    try:
        objectstore.client.put_object(Bucket=bucket, Key="probe", Body=b"x" * 4096)
    except ClientError:
        return False
    return True


def test_a_bucket_that_is_full(way, objectstore, bucket, volume):
    """Nothing is published; when there is room again, the next run is right."""
    user = json.loads(objectstore.admin("bucket", "stats", "--bucket", bucket))["owner"]
    quota = ["--quota-scope=bucket", "--uid", user, "--bucket", bucket]
    objectstore.admin("quota", "set", *quota, "--max-size=20000")
    objectstore.admin("quota", "enable", *quota)
    with pytest.raises(NoRoom) as caught:
        run(f"s3://{bucket}/db", volume)
    assert caught.value.exit_code == 13 and "db.ver" not in keys(objectstore, bucket)
    objectstore.admin("quota", "disable", *quota)
    until(lambda: can_write(objectstore, bucket))
    assert BackupSet(f"s3://{bucket}/db").newest() == 0
    assert run(f"s3://{bucket}/db", volume).kind == "full"


def test_a_store_that_is_gone_in_the_middle(way, objectstore, bucket, volume):
    way.reset(**{f"n{number}": "before" for number in range(6, ON)})
    with pytest.raises(StoreFailed) as caught:
        run(f"s3://{bucket}/db", volume)
    assert caught.value.exit_code == 15
    assert len(keys(objectstore, bucket)) == 1


@pytest.fixture
def nights_there(store_environment, bucket, volume):
    """A set of a full and two increments on it, and the same once more; and the contents of its versions."""
    name, contents = f"s3://{bucket}/db", {}
    for number in range(1, 7):
        contents[number] = change(volume, number)
        run(name, volume, full=number == 4)
    return name, contents


def restore_all(name, contents, folder):
    for number in versions(name):
        assert restored(name, number, folder / "out") == contents[number], number


def test_a_prune_removes_whole_chains_and_rewrites_nothing(nights_there, objectstore, bucket, tmp_path, run_verb):
    name, contents = nights_there
    stays = run_verb("prune", "--keep-last", "4", "--exact", name, env=objectstore.environment)
    assert (stays.returncode, versions(name)) == (0, [1, 2, 3, 4, 5, 6]), stays.err
    assert "in an object store nothing is rewritten" in stays.out
    gone = run_verb("prune", "--keep-last", "3", name, env=objectstore.environment)
    assert (gone.returncode, versions(name)) == (0, [4, 5, 6]), gone.err
    assert not [key for key in keys(objectstore, bucket) if key[:5] in ("db.1.", "db.2.", "db.3.")]
    restore_all(name, contents, tmp_path)
    refused = run_verb("consolidate", name, env=objectstore.environment)
    assert refused.returncode == 18 and "cannot replace them at one moment" in refused.err


def test_a_prune_that_is_cut_at_any_request_leaves_versions_that_restore(
    nights_there, way, died, objectstore, bucket, tmp_path, volume
):
    name, contents = nights_there
    template = [(key, key.replace("db", "first/db", 1)) for key in keys(objectstore, bucket)]
    for key, other in template:
        objectstore.client.copy_object(Bucket=bucket, Key=other, CopySource={"Bucket": bucket, "Key": key})
    template = [other for _, other in template]
    way.reset()
    nights.pruned(BackupSet(prepared(objectstore, bucket, template, "all")), last=3)
    removals = [n for n, request in enumerate(way.log, 1) if request.kind == "DeleteObject" and "lease" not in request.key]
    assert len(removals) == 15
    for number in removals[::2]:
        name = prepared(objectstore, bucket, template, f"cut{number}")
        choose._store.cache_clear()
        way.reset(**{f"n{number + more}": "before" if more else "after" for more in range(ON)})
        with pytest.raises(BlockdiffError):
            nights.pruned(BackupSet(name), last=3)
        way.reset()
        choose._store.cache_clear()
        for each in catalogue.describe(BackupSet(name)).versions:
            if each.restores:
                assert restored(name, each.number, tmp_path / "out") == contents[each.number]
        nights.pruned(BackupSet(name), last=3)
        assert versions(name) == [4, 5, 6]
