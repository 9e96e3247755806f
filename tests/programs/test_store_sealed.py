"""Programs that use a set in a real object store, sealed by a copy, with the private key on the command line."""

import json
import subprocess
import sys
import time

import chains
import databases
import disks
import instore
import pytest
import seals
import sshd as lab
import verbs
from launched import Launched, lacking, needs

from blockdiff import copy
from blockdiff.drilling import sandbox
from blockdiff.errors import NotAllowedHere, ProgramUnfit
from blockdiff.place.base import Access
from blockdiff.sets import newversion
from blockdiff.sets.backupset import BackupSet

pytestmark = pytest.mark.store
ssh_lab, sshd = lab.ssh_lab, lab.sshd
BOTH = pytest.mark.parametrize("how", ["sealed", pytest.param("plain", marks=pytest.mark.long)])
SEALED = 55


class Stored:
    """A set of two versions in buckets, plain and sealed; `volumes` has their bytes, of which the last are a file system."""

    def __init__(self, engine, folder, volumes):
        self.folder, self.volumes, self.environment = folder, volumes, engine.environment
        key = seals.Key()
        self.key = folder / "key"
        self.key.write_text(f"{key.secret}\n")
        here = chains.new_set(folder, "db")
        for volume in volumes:
            chains.write_version(here, volume, begun=newversion.stamp(newversion.now()))
        self.here, self.operands = here.name, {}
        with instore.client(engine):
            for how, recipients, words in (("plain", (), []), ("sealed", (key.recipient,), ["--identity", self.key])):
                self.bucket = engine.make_bucket(versions=True)
                dest = f"s3://{self.bucket}/pre/db"
                access = Access(alone=True, locks=str(folder), recipients=recipients)
                assert copy.copy(here, BackupSet(dest, access), every=True).exit_code == 0
                self.operands[how] = [*words, dest]
        self.url = dest


@pytest.fixture(scope="module")
def stored(objectstore, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sealed")
    (folder / "tree" / "etc").mkdir(parents=True)
    (folder / "tree" / "etc" / "hostname").write_text("web\n")
    words = [disks.found("mkfs.ext4") or "mkfs.ext4", "-q", "-F", "-d", folder / "tree", folder / "image", "8M"]
    needs(words[0])
    subprocess.run(words, check=True, capture_output=True)
    volume = (folder / "image").read_bytes()
    return Stored(objectstore, folder, [bytes(len(volume)), volume])


@pytest.fixture
def run(run_verb, stored):
    """Return a function that runs a program on the set, sealed or not."""

    def run(verb, *words, how="sealed"):
        done = run_verb(verb, *words, *stored.operands[how], env=stored.environment)
        assert (done.returncode, done.err) == (0, "")
        return done.out

    return run


def drilling():
    """Skip where no clone of a file system can be mounted."""
    needs("fuse2fs", "e2fsck")
    try:
        sandbox.require()
    except (ProgramUnfit, NotAllowedHere) as error:
        lacking(str(error))


def test_what_looks_at_sets_sees_what_a_folder_would_show(run, run_verb, stored, tmp_path):
    def seen(out):
        versions = json.loads(out)["sets"][0]["versions"]
        return [{key: value for key, value in each.items() if key != "stored"} for each in versions]

    assert seen(run("list", "--json")) == seen(run_verb("list", "--json", stored.here).out)
    (one,) = json.loads(run("check", "--json"))["sets"]
    assert (one["set"], one["state"], one["points"]) == (stored.url, "OK", 2)
    run("report", "-o", tmp_path / "page")
    page = (tmp_path / "page").read_text()
    assert stored.url in page and "private key" not in page and "8.0 MiB" in page


def test_without_the_key_each_says_that_one_is_needed(stored, tmp_path):
    env = {**verbs.environment(tmp_path), **stored.environment}
    calls = {"list": [], "look": [], "drill": ["--fsck"], "merge": []}
    started = [
        subprocess.Popen(
            verbs.words(verb, *words, stored.url, *([tmp_path / "out"] if verb == "merge" else [])),
            env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for verb, words in calls.items()
    ]  # fmt: skip
    for verb, process in zip(calls, started, strict=True):
        _, err = process.communicate(timeout=60)
        assert process.returncode == SEALED, (verb, err)
        assert err.startswith(f"blockdiff: {stored.url} is sealed: ") and err.count("\n") == 1, verb
    assert not (tmp_path / "out").exists()


def test_another_key_opens_nothing_and_is_no_damage(run, run_verb, stored, tmp_path):
    (tmp_path / "other").write_text(seals.Key().secret)
    words = ["--identity", tmp_path / "other", stored.url]
    for verb in ("list", "verify"):
        done = run_verb(verb, *words, env=stored.environment)
        assert done.returncode == SEALED and "the identity does not open it" in done.err
        assert "\n      2  " in done.out and "LOST" not in done.out
    (one,) = json.loads(run("check", "--json"))["sets"]
    assert one["findings"] == []


@BOTH
def test_a_file_of_it(fuse, guests, run, tmp_path, how):
    assert run("look", "--get", tmp_path, how=how).startswith(f"{tmp_path}/: ")
    assert (tmp_path / "etc" / "hostname").read_text() == "web\n"


@pytest.mark.usefixtures("nbdkit")
def test_a_drill_and_who_tells_of_it(run, stored):
    drilling()
    assert "  run  " in run("drill", "--run", "grep -qx web etc/hostname")
    (one,) = json.loads(run("check", "--json", "--drilled", "1d"))["sets"]
    assert one["drill_passed"] is True


@pytest.mark.long
@pytest.mark.usefixtures("nbdkit")
@pytest.mark.parametrize("how", ["sealed", "plain"])
def test_a_drill_of_a_database(objectstore, run_verb, tmp_path, how):
    needs("mariadbd")
    drilling()
    databases.mariadb(databases.image(tmp_path / "image"))
    made = Stored(objectstore, tmp_path, [(tmp_path / "image").read_bytes()])
    words = ("--mariadb", "/mysql", "--query", "SELECT COUNT(*) FROM shop.orders", "--expect", f"^{databases.ROWS}$")
    done = run_verb("drill", *words, *made.operands[how], env=made.environment)
    assert (done.returncode, done.err) == (0, "") and "  query  " in done.out


def test_the_past_is_drilled_and_nothing_is_kept_of_it(nbdkit, objectstore, run_verb, stored, tmp_path):
    """The bucket keeps versions: what was there is used once it has been removed."""
    drilling()
    bucket = stored.operands["plain"][-1].split("/")[2]
    listed = objectstore.client.list_objects_v2(Bucket=bucket)["Contents"]
    then = int(max(one["LastModified"].timestamp() for one in listed))
    while time.time() < then + 2:  # times of a store are whole seconds
        time.sleep(0.1)
    env, words = stored.environment, ["--fsck", stored.operands["plain"][-1]]
    for one in listed:
        objectstore.client.delete_object(Bucket=bucket, Key=one["Key"])
    try:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(then + 1))
        done = run_verb("drill", "--as-of", stamp, *words, env=env)
        assert (done.returncode, done.err) == (0, "") and "drill of version 2 of " in done.out
        assert not (tmp_path / "state").exists()
        refused = run_verb("drill", "--as-of", stamp, "--metrics", tmp_path / "x.prom", *words, env=env)
        assert refused.returncode == 2 and "--metrics is about the set as it is" in refused.err
    finally:
        for one in objectstore.client.list_object_versions(Bucket=bucket)["DeleteMarkers"]:
            objectstore.client.delete_object(Bucket=bucket, Key=one["Key"], VersionId=one["VersionId"])


def test_an_export(nbdkit, run_verb, stored, tmp_path):
    code = "import os, subprocess; subprocess.run(['nbdcopy', os.environ['BLOCKDIFF_URI'], 'out'], check=True)"
    words = [*stored.operands["sealed"], "--", sys.executable, "-c", code]
    done = run_verb("nbd", *words, cwd=tmp_path, env=stored.environment)
    assert done.returncode == 0, done.err
    assert (tmp_path / "out").read_bytes() == stored.volumes[1]


@BOTH
def test_a_restore_to_a_host(stored, ssh_lab, sshd, how):
    """Over a real sshd; of another version, only what differs is sent."""
    target = ssh_lab.folder / "disk"
    env = {**stored.environment, "SSH_AUTH_SOCK": "", "BLOCKDIFF_SSH_CONFIG": str(ssh_lab.config)}
    env["XDG_STATE_HOME"] = str(ssh_lab.folder / "state")
    for words, version in ((["--to", "1"], 1), (["--force"], 2)):
        operands = [*stored.operands[how], f"source:{target}"]
        with Launched("blockdiff-merge", "--json", *words, *operands, env=env) as run:
            code, out, err = run.finish()
        assert code == 0, err
        told = json.loads(out)
        assert (told["version"], told["error"]) == (version, None) and told["differed"] < told["blocks"]
        assert target.read_bytes() == stored.volumes[version - 1]
