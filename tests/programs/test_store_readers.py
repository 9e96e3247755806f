"""Programs that read a set straight from a real object store, with a key that may only list and read."""

import functools
import json
import os
import random
import subprocess
import sys
import time

import chains
import instore
import pytest
import verbs

pytestmark = pytest.mark.store
BLOCK = 512
CHANCE = random.Random(5)
READS = {"ListObjectsV2", "ListObjectVersions", "GetObject"}


def volumes(count, blocks=60):
    found = [CHANCE.randbytes(blocks * BLOCK)]
    while len(found) < count:
        found.append(instore.edited(found[-1], 3, BLOCK, CHANCE))
    return found


class Stored:
    """A set of four versions in a bucket, below `url`; `keys` is the environment of a reader."""

    def __init__(self, engine, folder):
        self.bucket = engine.make_bucket()
        self.url, self.folder, self.volumes = f"s3://{self.bucket}/pre", folder, volumes(4)
        with instore.client(engine):
            self.name = instore.chain(folder, self.url, self.volumes, BLOCK)
        self.keys = engine.reader(self.bucket, "pre/")

    def through(self, proxy):
        return {**self.keys, "AWS_ENDPOINT_URL": proxy.url}


@pytest.fixture(scope="module")
def stored(objectstore, tmp_path_factory):
    return Stored(objectstore, tmp_path_factory.mktemp("stored") / "folder")


def test_a_list_asks_for_one_list_and_two_files_a_version(run_verb, stored, cuts):
    done = run_verb("list", stored.name, env=stored.through(cuts))
    here = run_verb("list", stored.folder / "db")
    assert (done.returncode, done.err) == (0, "") and done.out == here.out.replace(str(stored.folder), stored.url)
    assert cuts.kinds() == {"ListObjectsV2": 1, "GetObject": 1 + 2 * 4}
    cuts.reset()
    for operand in (f"{stored.url}/", stored.url):
        assert run_verb("list", operand, env=stored.through(cuts)).out == done.out
    # without the last slash it is asked first whether there is a set of that name
    assert cuts.kinds() == {"ListObjectsV2": 1 + 3, "GetObject": 2 * 9}


def test_a_restore_and_what_it_asks_for(run_verb, stored, cuts, tmp_path):
    env = stored.through(cuts)
    done = run_verb("merge", "-q", "--to", "3", stored.name, tmp_path / "out", env=env)
    assert (done.returncode, done.err) == (0, "") and (tmp_path / "out").read_bytes() == stored.volumes[2]
    # NAME.ver, then each small file once: manifest, digests, index, diff file
    assert cuts.kinds() == {"ListObjectsV2": 2, "GetObject": 1 + 4 * 3}
    cuts.reset()
    env = {**verbs.environment(tmp_path), **env}
    assert subprocess.check_output(verbs.words("merge", "-q", stored.name, "-"), env=env) == stored.volumes[3]
    assert cuts.kinds() == {"ListObjectsV2": 2, "GetObject": 1 + 4 * 4}


def test_a_verify_and_what_it_leads_to(run_verb, stored, cuts):
    done = run_verb("verify", stored.name, env=stored.through(cuts))
    assert (done.returncode, done.err) == (0, "") and "versions that restore: 1-4" in done.out
    kinds = cuts.kinds()
    assert kinds["ListObjectsV2"] <= 4 and kinds["GetObject"] == 2 + 5 * 4 and set(kinds) <= READS
    cuts.reset()
    new = run_verb("verify", "--new", "-q", stored.name, env=stored.through(cuts))
    assert new.returncode == 0 and not any(request.key.endswith(".gz") for request in cuts.log)
    checked = json.loads(run_verb("check", "--json", f"{stored.url}/", env=stored.keys).out)
    (one,) = checked["sets"]
    assert (one["set"], one["points"], one["proved"], one["running"]) == (stored.name, 4, 4, False)
    assert one["free"] is None
    due = json.loads(run_verb("verify", "--every", "1d", "--json", stored.name, env=stored.keys).out)
    assert (due["due"], due["exit_code"]) == (0, 0)


def test_a_report(run_verb, stored, tmp_path):
    other = chains.new_set(tmp_path)
    for volume in volumes(2):
        chains.write_version(other, volume, BLOCK)
    done = run_verb("report", "-o", tmp_path / "page", stored.name, other.name, env=stored.keys)
    page = (tmp_path / "page").read_text()
    assert (done.returncode, done.err) == (0, "") and stored.name in page and other.name in page


def test_a_set_that_never_began_and_a_store_that_is_not_there_hide_no_other_set(run_verb, stored, tmp_path):
    other = chains.new_set(tmp_path)
    chains.write_version(other, b"x" * BLOCK, BLOCK)
    done = run_verb("check", "--json", f"{stored.url}/never", other.name, env=stored.keys)
    by_name = {one["set"]: one for one in json.loads(done.out)["sets"]}
    assert by_name[f"{stored.url}/never"]["state"] == "CRITICAL"
    assert "no such set" in by_name[f"{stored.url}/never"]["findings"][0]["text"]
    gone = {**stored.keys, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    done = run_verb("list", stored.name, other.name, env=gone)
    assert done.returncode == 17 and "1 versions" in done.out and "cannot reach" in done.err


def test_a_key_that_is_refused(run_verb, stored, tmp_path):
    wrong = {**stored.keys, "AWS_SECRET_ACCESS_KEY": "other"}
    for words in (["list", stored.name], ["verify", stored.name], ["merge", stored.name, tmp_path / "out"]):
        done = run_verb(*words, env=wrong)
        assert done.returncode == 18 and "the object store refuses" in done.err and done.err.count("\n") == 1
        assert "readersecret" not in done.err + done.out
    assert os.listdir(tmp_path) == []


def test_a_restore_that_is_cut_leaves_nothing_that_looks_whole(run_verb, stored, cuts, tmp_path):
    target = tmp_path / "new" / "out"
    target.parent.mkdir()
    cuts.reset(since=(12, "middle"))
    done = run_verb("merge", "-q", stored.name, target, env=stored.through(cuts))
    assert done.returncode == 17 and not target.exists() and "Traceback" not in done.err
    cuts.reset(n3="middle", n7=503, n9="before")
    assert run_verb("merge", "-q", stored.name, tmp_path / "out", env=stored.through(cuts)).returncode == 0
    assert (tmp_path / "out").read_bytes() == stored.volumes[3]


def test_a_bit_that_is_flipped_on_the_way_is_no_restore(run_verb, stored, cuts, tmp_path):
    for number in range(3, 3 + 4 * 4, 5):
        cuts.reset(**{f"n{number}": "answer"})
        done = run_verb("merge", "-q", stored.name, tmp_path / f"out{number}", env=stored.through(cuts))
        right = (tmp_path / f"out{number}").exists() and (tmp_path / f"out{number}").read_bytes() == stored.volumes[3]
        assert right == (done.returncode in (0, 3)), done.err


@pytest.mark.parametrize("words", [
    ["merge", "NAME", "s3://elsewhere/x"], ["merge", "s3://elsewhere/x"],
    ["list", "--as-of", "1d", "/var/backup/db"], ["list", "--as-of", "never", "NAME"],
    ["verify", "--as-of", "1d", "--new", "NAME"],
])  # fmt: skip
def test_what_makes_no_sense_is_said_in_a_line(run_verb, words):
    done = run_verb(*[word.replace("NAME", "s3://some/set") for word in words])
    assert done.returncode == 2 and done.err.splitlines()[-1].startswith("Error: ")


def test_an_export(nbdkit, run_verb, stored, tmp_path):
    code = "import os, pathlib, subprocess; subprocess.run(['nbdcopy', os.environ['BLOCKDIFF_URI'], 'out'], check=True)"
    done = run_verb("nbd", "--to", "2", stored.name, "--", sys.executable, "-c", code, cwd=tmp_path, env=stored.keys)
    assert done.returncode == 0, done.err
    assert (tmp_path / "out").read_bytes() == stored.volumes[1]
    gone = {**stored.keys, "AWS_SECRET_ACCESS_KEY": "other"}
    assert run_verb("nbd", stored.name, "--", "true", env=gone).returncode == 18


def test_the_past_of_a_bucket_that_keeps_versions(run_verb, objectstore, tmp_path):
    bucket = objectstore.make_bucket(versions=True)
    url, history = f"s3://{bucket}/pre", volumes(3)
    with instore.client(objectstore):
        name = instore.chain(tmp_path / "folder", url, history[:2], BLOCK)
        before = newest(objectstore, bucket)
        while time.time() < before + 2:  # times of a store are whole seconds
            time.sleep(0.1)
        instore.chain(tmp_path / "folder", url, history[2:], BLOCK)
    for key in ("pre/db.1.gz", "pre/db.2.json"):
        objectstore.client.put_object(Bucket=bucket, Key=key, Body=b"garbage" * 100)
    for one in objectstore.client.list_objects_v2(Bucket=bucket)["Contents"]:
        if not one["Key"].endswith("1.gz"):
            objectstore.client.delete_object(Bucket=bucket, Key=one["Key"])
    env = objectstore.environment
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(before + 1))

    assert run_verb("merge", name, tmp_path / "out", env=env).returncode == 14
    assert run_verb("merge", "-q", "--as-of", stamp, name, tmp_path / "out", env=env).returncode == 0
    assert (tmp_path / "out").read_bytes() == history[1]
    utc = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(before + 1))
    verified = run_verb("verify", "--as-of", utc, f"{url}/", env=env)
    assert verified.returncode == 0 and "versions that restore: 1-2" in verified.out
    listed = json.loads(run_verb("list", "--json", "--as-of", utc, url, env=env).out)
    assert [one["version"] for one in listed["sets"][0]["versions"]] == [1, 2]
    assert not (tmp_path / "state").exists()  # nothing is noted of the past
    old = run_verb("list", "--as-of", "2001-01-01", name, env=env)
    assert old.returncode == 10


def newest(engine, bucket):
    """When the newest object was made, in seconds since 1970."""
    listed = engine.client.list_objects_v2(Bucket=bucket)["Contents"]
    return int(max(one["LastModified"].timestamp() for one in listed))


def test_disaster_from_the_bucket_alone(run_verb, stored, tmp_path):
    home = tmp_path / "home"
    (home / ".aws").mkdir(parents=True)
    keys = stored.keys
    (home / ".aws" / "credentials").write_text(
        f"[default]\naws_access_key_id = {keys['AWS_ACCESS_KEY_ID']}\n"
        f"aws_secret_access_key = {keys['AWS_SECRET_ACCESS_KEY']}\n"
    )
    env = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_CONFIG_FILE"), "")
    env |= {"HOME": str(home), "AWS_SHARED_CREDENTIALS_FILE": str(home / ".aws" / "credentials")}
    env |= {"AWS_ENDPOINT_URL": keys["AWS_ENDPOINT_URL"], "AWS_REGION": keys["AWS_REGION"]}
    assert "4 versions" in run_verb("list", f"{stored.url}/", env=env, cwd=home).out
    done = run_verb("merge", "-q", stored.name, "disk", env=env, cwd=home)
    assert done.returncode == 0 and (home / "disk").read_bytes() == stored.volumes[3]


def test_what_a_store_may_have_beside_sets(run_verb, objectstore, cuts):
    bucket = objectstore.make_bucket()
    put = functools.partial(objectstore.client.put_object, Bucket=bucket)
    for key in ("e\x1b[31mvil.ver", "../up.1.md5", "db.1.md5", "db.1.gz", "a/b/db.1.md5"):
        put(Key=f"pre/{key}", Body=b"\x00\x02\x00\x00")
    put(Key="pre/db.1.json", Body=bytes(4 << 20))
    put(Key="pre/db.ver", Body=b"1\n")
    env = {**objectstore.environment, "AWS_ENDPOINT_URL": cuts.url}
    done = run_verb("list", f"s3://{bucket}/pre", env=env)
    assert "\x1b" not in done.out + done.err and "/../" not in done.out
    assert "manifest is larger than" in done.out
    asked = [request.headers["range"] for request in cuts.log if request.key.endswith(".json")]
    assert set(asked) == {f"bytes=0-{1 << 20}"}
