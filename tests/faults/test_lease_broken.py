"""A run whose lease another run breaks while it lives: it ends, and publishes nothing."""

import os
import subprocess
import threading

import pytest
import verbs
from engine import restored
from programs import Program

from blockdiff.sets.backupset import BackupSet

pytestmark = [pytest.mark.store, pytest.mark.usefixtures("store_environment")]


@pytest.mark.parametrize("number, kind", [(6, "UploadPart"), (10, "PutObject")])
def test_a_run_that_lives_publishes_nothing_once_its_lease_was_broken(
    number, kind, objectstore, bucket, cuts, run_verb, tmp_path
):
    """The first: while its diff file goes up; the second: the other run removes files that are there already."""
    name, arrived, gate = f"s3://{bucket}/db", threading.Event(), threading.Event()
    volume = tmp_path / "volume"
    volume.write_bytes(os.urandom(80_000))

    def hold():
        arrived.set()
        gate.wait(60)

    cuts.reset(**{f"n{number}": hold})
    environment = {**verbs.environment(tmp_path), **objectstore.environment, "AWS_ENDPOINT_URL": cuts.url}
    with Program(verbs.words("backup", name, volume), env=environment, stderr=subprocess.PIPE) as program:
        assert arrived.wait(60) and cuts.log[-1].kind == kind
        done = run_verb("backup", "--break-lease", name, volume, env=objectstore.environment)
        gate.set()
        said = program.communicate(timeout=60)[1].decode()
    assert (done.returncode, program.returncode) == (0, 12), said
    assert "another run" in said and "Traceback" not in said
    newest = BackupSet(name).newest()
    assert f"version {newest} of" in done.err
    assert restored(name, newest, tmp_path / "out") == volume.read_bytes()
    listed = objectstore.client.list_objects_v2(Bucket=bucket, Prefix="db.")["Contents"]
    assert [one["Key"] for one in listed if one["Key"].endswith(".json")] == [f"db.{newest}.json"]
