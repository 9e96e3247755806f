"""A real object store, started once for all workers of a run, which ends with the run; a bucket a test."""

import contextlib
import fcntl
import functools
import json
import os
import pathlib
import shlex
import shutil
import socket
import subprocess
import tempfile
import uuid

import pytest
from places import TESTS
from programs import Program, until

SCRIPT = TESTS / "lab" / "objectstore.sh"
PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin", "setpriv")
QUIET = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
SECRETS = ("blockdiffsecret", "readersecret")  # that nothing of ours may print
_started = []  # kept: an engine outlives the test that started it


def start(folder, pid):
    """Start an engine that lives as long as process pid, and return it; folder must be new or empty."""
    folder = pathlib.Path(folder)
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [SCRIPT, folder, str(pid)], stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
        _started.append(process)
        until(lambda: (folder / "env").exists() or process.poll() is not None, 120)
        if process.returncode is not None:
            output.seek(0)
            raise RuntimeError(f"the object store does not start: {output.read().decode(errors='replace')}")
    return Engine(folder)


def answers(endpoint):
    """Return whether something listens there."""
    host, port = endpoint.split(":")
    try:
        socket.create_connection((host, int(port))).close()
    except OSError:
        return False
    return True


class Engine:
    """A running object store; `environment` is what its clients read."""

    def __init__(self, folder):
        self.folder = folder
        lines = (folder / "env").read_text().splitlines()
        self.environment = dict(shlex.split(line)[1].split("=", 1) for line in lines)
        self.endpoint = self.environment["AWS_ENDPOINT_URL"]

    @functools.cached_property
    def client(self):
        """A client that may do everything, of which nothing hangs on this process's environment."""
        import botocore.session
        from botocore.config import Config

        return botocore.session.get_session().create_client(
            "s3", endpoint_url=self.endpoint, region_name="default",
            aws_access_key_id=self.environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.environment["AWS_SECRET_ACCESS_KEY"],
            config=Config(
                s3={"addressing_style": "path"}, retries={"total_max_attempts": 1},
                request_checksum_calculation="when_required", response_checksum_validation="when_required",
            ),
        )  # fmt: skip

    def make_bucket(self, lock=False, versions=False):
        """Make a new bucket and return its name; `lock`: with object lock, and so with versions."""
        name = f"test-{uuid.uuid4().hex}"
        self.client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=lock)
        if versions:
            self.client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        return name

    def admin(self, *words, program="radosgw-admin"):
        """Run one of the store's own programs for its administrator and return what it prints."""
        environment = {**os.environ, "CEPH_CONF": str(self.folder / "ceph.conf")}
        return subprocess.run([program, *words], env=environment, check=True, capture_output=True, text=True).stdout

    def rot(self, bucket, key, offset):
        """Change a bit of an object on the disks of the store, behind its back."""
        rados = functools.partial(self.admin, "-p", "default.rgw.buckets.data", program="rados")
        probe = uuid.uuid4().hex
        self.client.put_object(Bucket=bucket, Key=probe, Body=b"")
        names = rados("ls").splitlines()
        (before,) = [name.removesuffix(probe) for name in names if name.endswith(probe)]  # what is of this bucket
        self.client.delete_object(Bucket=bucket, Key=probe)
        # the first part of what came in parts has a name of its own
        parts = [name for name in names if name.startswith(f"{before}_multipart_{key}.2~") and name.endswith(".1")]
        name = parts[0] if parts else before + key
        with tempfile.NamedTemporaryFile() as file:
            rados("get", name, file.name)
            file.seek(offset)
            other = bytes([file.read(1)[0] ^ 4])
            file.seek(0)
            file.write(other)
            file.truncate(1)
            file.flush()
            rados("put", name, file.name, "--offset", str(offset))

    @contextlib.contextmanager
    def gateway(self):
        """Yield the environment of clients of one more gateway, which knows what was set up since the first began."""
        with socket.create_server(("127.0.0.1", 0)) as probe:
            endpoint = "127.0.0.1:{1}".format(*probe.getsockname())
        words = ["radosgw", "-n", "client.other", "-f", "--rgw-frontends", f"beast endpoint={endpoint}"]
        with Program(words, env={**os.environ, "CEPH_CONF": str(self.folder / "ceph.conf")}, **QUIET) as program:
            until(lambda: answers(endpoint) or program.poll() is not None)
            yield {**self.environment, "AWS_ENDPOINT_URL": f"http://{endpoint}"}
            program.kill()

    def reader(self, bucket, prefix=""):
        """Return the environment of a key that may only list a bucket's prefix and read what begins with it."""
        arn = f"arn:aws:s3:::{bucket}"
        common = {"Effect": "Allow", "Principal": {"AWS": ["arn:aws:iam:::user/reader"]}}
        within = {"StringLike": {"s3:prefix": [f"{prefix}*"]}}
        statements = [
            {**common, "Action": ["s3:GetObject"], "Resource": [f"{arn}/{prefix}*"]},
            {**common, "Action": ["s3:ListBucket"], "Resource": [arn], "Condition": within},
        ]
        policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
        self.client.put_bucket_policy(Bucket=bucket, Policy=policy)
        return {**self.environment, "AWS_ACCESS_KEY_ID": "readerkey", "AWS_SECRET_ACCESS_KEY": "readersecret"}


@pytest.fixture(scope="session")
def objectstore(request, tmp_path_factory):
    """Yield the Engine of this run, started by the first test that needs it; it ends when pytest has ended."""
    from launched import lacking

    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        lacking(f"missing: {' '.join(missing)}")
    worker = hasattr(request.config, "workerinput")
    pid = os.getppid() if worker else os.getpid()
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if worker else shared
    with open(shared / "objectstore.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = shared / "objectstore"
        if not known.exists():
            folder = tempfile.mkdtemp(prefix="blockdiff-objectstore-")
            start(folder, pid)
            known.symlink_to(folder)
    engine = Engine(known)
    yield engine
    engine.client.close()


@pytest.fixture
def store_environment(objectstore, monkeypatch):
    """Let this process be a client of the engine."""
    from blockdiff.place import choose

    for name, value in objectstore.environment.items():
        monkeypatch.setenv(name, value)
    choose._store.cache_clear()
    yield
    choose._store.cache_clear()


@pytest.fixture
def bucket(objectstore):
    """Return the name of a bucket of the test's own."""
    return objectstore.make_bucket()
