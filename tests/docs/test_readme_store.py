"""What the README shows of a second place is run, on a real object store, with a key that may do what it says."""

import datetime
import json
import os
import re
import subprocess
import sys
import time

import pytest
from launched import needs
from places import ROOT
from readme import FENCED, PLACES, README, cron_line, moved

SECTION = README.partition("## A second place")[2].partition("\n## ")[0]
LINES = [line for line in re.findall(r"^    (.*)$", SECTION, re.M) if "cronlog" not in line]

pytestmark = pytest.mark.store


@pytest.fixture
def at(request, objectstore, tmp_path):
    """A folder that stands for /, a bucket, and a function that runs a line of the README for both."""
    for place in (*PLACES, "/root/.ssh"):
        (tmp_path / place[1:]).mkdir(parents=True)
    bucket = objectstore.make_bucket(lock=getattr(request, "param", False))
    (policy,) = [text for kind, text in FENCED if kind == "json"]
    value = json.loads(policy.replace(":::offsite", f":::{bucket}"))
    for statement in value["Statement"]:
        statement["Principal"] = {"AWS": ["arn:aws:iam:::user/reader"]}
    keys = objectstore.reader(bucket)
    objectstore.client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(value))
    path = [str(ROOT / "bin"), os.path.dirname(sys.executable), os.environ["PATH"]]
    environment = {"PATH": os.pathsep.join(path), "HOME": str(tmp_path), "TZ": "UTC", **keys}

    def run(line):
        line = moved(line.replace("s3://offsite/", f"s3://{bucket}/"), tmp_path).replace(" /root/", f" {tmp_path}/root/")
        done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, env=environment, cwd=tmp_path)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        return done.stdout

    return tmp_path, bucket, run


@pytest.mark.parametrize("at", [True], indirect=True, ids=["with object lock"])
def test_a_second_place_as_it_is_told(at, objectstore):
    needs("age-keygen")
    root, bucket, run = at
    keygen, public, listed, restored, before = LINES[:5]
    run(keygen), run(public)
    image = root / "srv/disk.img"
    image.write_bytes(os.urandom(150_000))
    run("blockdiff-backup /var/backup/img /srv/disk.img")
    run(cron_line("/etc/offsite.pub"))
    assert "1 version" in run(listed)
    run(restored)
    assert (root / "srv/restored.img").read_bytes() == image.read_bytes()
    for each in objectstore.client.list_object_versions(Bucket=bucket)["Versions"]:
        if each["Key"].endswith(".ver"):
            continue
        with pytest.raises(Exception, match="AccessDenied"):
            objectstore.client.delete_object(Bucket=bucket, Key=each["Key"], VersionId=each["VersionId"])
    time.sleep(1.1)  # --as-of is in whole seconds
    moment = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    time.sleep(1.1)
    for each in objectstore.client.list_objects_v2(Bucket=bucket)["Contents"]:
        objectstore.client.delete_object(Bucket=bucket, Key=each["Key"])
    assert "--as-of 2d " in before
    run(before.replace("2d", moment))
    assert (root / "srv/before.img").read_bytes() == image.read_bytes()


def test_signatures_as_they_are_told(at):
    root, _, run = at
    sign, trusting, stock = LINES[5:]
    image = root / "srv/disk.img"
    image.write_bytes(os.urandom(150_000))
    run("ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/backup01")
    key = (root / "root/.ssh/backup01.pub").read_text()
    (root / "etc/allowed_signers").write_text(f'* namespaces="blockdiff" {key}')
    run(sign), run(sign)
    run(trusting)
    assert (root / "srv/signed.img").read_bytes() == image.read_bytes()
    assert 'Good "blockdiff" signature' in run(stock)


def test_a_backup_straight_into_a_bucket_as_it_is_told(at, objectstore):
    root, _, run = at
    (line,) = re.findall(r"`(blockdiff-backup s3://[^`]*)`", SECTION)
    (root / "srv/disk.img").write_bytes(os.urandom(150_000))
    line = line.replace("\n", " ").replace("/straight/", "/backup01/straight/")
    run(line), run(line)
    assert "2 versions" in run("blockdiff-list s3://offsite/backup01/straight/img")
