"""Two programs back up two volumes into one set of an object store; one of them is stopped, and the other goes through.

The one that was stopped has not seen how long that took, as after a suspend: its lease is old to the other one, and
as good as new to itself.
"""

import os
import pathlib
import signal
import subprocess

import pytest
import verbs
from engine import back_up
from programs import Program, until

from blockdiff import restore
from blockdiff.place import choose, lease
from blockdiff.sets.backupset import BackupSet

pytestmark = pytest.mark.store
BLOCK = 4096
OPTIONS = ["--block-size", str(BLOCK), "--new-source", "-q"]


class Writers:
    """A set of one version, and who writes it."""

    def __init__(self, objectstore, bucket, cuts, folder, patch):
        self.engine, self.bucket, self.way, self.folder = objectstore, bucket, cuts, folder
        self.first, self.mine, self.other = (os.urandom(20 * BLOCK + 7) for _ in range(3))
        for name in ("mine", "other"):
            (folder / name).write_bytes(getattr(self, name))
        (folder / "first").write_bytes(self.first)
        patch.setattr(lease, "DEAD_S", -1)  # to those of this process
        self.run(f"s3://{bucket}/first/db", "first")
        listed = objectstore.client.list_objects_v2(Bucket=bucket)["Contents"]
        self.template = [one["Key"] for one in listed]

    def name(self, prefix):
        """Make a copy of the set, and return its NAME."""
        for key in self.template:
            source = {"Bucket": self.bucket, "Key": key}
            self.engine.client.copy_object(Bucket=self.bucket, Key=key.replace("first", prefix), CopySource=source)
        return f"s3://{self.bucket}/{prefix}/db"

    def run(self, name, volume):
        choose._store.cache_clear()
        return back_up(name, self.folder / volume, block_size=BLOCK, snapshot="none", live=True)

    def program(self, name):
        """The program that is going to be stopped."""
        environment = {**verbs.environment(self.folder), **self.engine.environment, "AWS_ENDPOINT_URL": self.way.url}
        words = verbs.words("backup", *OPTIONS, name, self.folder / "mine")
        return Program(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def steps(self):
        """All requests of the program when nobody stops it."""
        self.way.reset()
        with self.program(self.name("counted")) as program:
            assert program.communicate(timeout=60)[0] == "" and program.returncode == 0
        return list(self.way.log)

    def stopped(self, name, number):
        """Start the program and return it, stopped once a request is sent; that arrives, and is answered."""
        programs = []

        def stop():
            until(lambda: programs)
            os.killpg(programs[0].pid, signal.SIGSTOP)
            until(lambda: state(programs[0].pid) == "T")

        self.way.reset(**{f"n{number}": stop})
        programs.append(self.program(name))
        until(lambda: len(self.way.log) >= number and self.way.log[number - 1].answer)
        return programs[0]

    def contents(self, name, settled):
        """The volumes of all versions; `settled`: another run has begun and ended since."""
        choose._store.cache_clear()
        found = BackupSet(name).listing().versions
        # a file that comes after a version was removed is of none; the next run removes it
        numbers = [number for number in sorted(found) if settled or ".md5" in found[number]]
        out, volumes = str(self.folder / "out"), {}
        for number in numbers:  # NAME.ver may be of an older one until then
            assert restore.restore(BackupSet(name), number, out, force=True).failure is None
            volumes[number] = pathlib.Path(out).read_bytes()
        return volumes


def state(pid):
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.fixture
def writers(store_environment, objectstore, bucket, cuts, tmp_path, monkeypatch):
    return Writers(objectstore, bucket, cuts, tmp_path, monkeypatch)


def one(writers, number, before_the_end):
    """Stop the program at this request, and see what is there when both have ended.

    `before_the_end`: before it looks for the last time whether another run has gone past it.
    """
    name = writers.name(str(number))
    with writers.stopped(name, number) as program:
        done = writers.run(name, "other")
        assert writers.contents(name, False)[done.version] == writers.other
        os.killpg(program.pid, signal.SIGCONT)
        said = program.communicate(timeout=60)[0]
    assert program.returncode in (0, 3, 12, 15), said
    known = {1: writers.first, done.version: writers.other}
    for settled in (False, True):
        if settled:
            newest = writers.run(name, "other").version
            known[newest] = writers.other
        found = writers.contents(name, settled)
        assert found.items() >= known.items() and set(found.values()) <= {writers.mine, *known.values()}, (number, said)
        if before_the_end:
            assert BackupSet(name).newest() == max(known), (number, said)
        assert program.returncode not in (0, 3) or writers.mine in found.values(), (number, said)
    assert newest == max(found) == BackupSet(name).newest()


def test_at_the_steps_that_matter(writers):
    """While the bytes go up, when all files but the manifest were seen to be there, and with the manifest."""
    requests = writers.steps()
    part = next(n for n, request in enumerate(requests, 1) if request.kind == "UploadPart")
    sheet = next(n for n, request in enumerate(requests, 1) if request.key.endswith(".2.json"))
    for number in (part, sheet - 1, sheet):
        one(writers, number, True)


@pytest.mark.long
def test_at_any_step(writers):
    requests = writers.steps()
    assert len(requests) > 15
    sheet = next(n for n, request in enumerate(requests, 1) if request.key.endswith(".2.json"))
    for number in range(1, len(requests) + 1):
        one(writers, number, number <= sheet)
