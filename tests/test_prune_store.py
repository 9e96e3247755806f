"""Pruning a set in an object store: what the store keeps is held, and that a bucket keeps what was removed is said.

These sets were copied: they have no lease, and a lock of this machine as copies have.  So a prune works in a bucket
with versions of Ceph as well, which replaces objects there where it shall make one only if there is none.
"""

import datetime
import json
import time

import nights
import pytest
import seals
from mdoc import Page

from blockdiff import copy, verify
from blockdiff.commands import prune as command
from blockdiff.errors import SetLocked
from blockdiff.place import choose
from blockdiff.place.base import Access
from blockdiff.sets.backupset import BackupSet

pytestmark = [pytest.mark.store, pytest.mark.usefixtures("store_environment")]
SOON = 1000  # seconds


@pytest.fixture
def store(tmp_path, cuts, monkeypatch):
    """Return a function that copies versions 1-2, 3-4 and 5 to a bucket, and returns that set."""
    source = nights.new(tmp_path / "here", 5, fulls=(3, 5))[0]
    monkeypatch.setenv("AWS_ENDPOINT_URL", cuts.url)

    def make(bucket, locked=0, until=None):
        """`locked`: the newest version that is locked until then."""
        backup_set = None
        for number, lock in ((locked, until), (5, None)):
            if number:
                (tmp_path / "here" / "vol.ver").write_text(f"{number}\n")
                backup_set = BackupSet(f"s3://{bucket}/vol", Access(locks=str(tmp_path), alone=True, lock_until=lock))
                assert copy.copy(source, backup_set, every=True).faults == []
        choose._store.cache_clear()
        cuts.reset()
        return BackupSet(backup_set.name, Access(locks=str(tmp_path)))

    return make


def there(backup_set):
    return sorted(backup_set.listing().versions)


@pytest.mark.parametrize("locked, held", [(1, [1]), (2, [1, 2]), (4, [1, 2, 3, 4])])
def test_what_the_store_keeps_is_held_with_what_it_needs(store, objectstore, cuts, locked, held):
    bucket, until, said = objectstore.make_bucket(lock=True), int(time.time()) + SOON, []
    backup_set = store(bucket, locked, until)
    plan = nights.planned(backup_set, last=1)
    assert (plan.go, plan.held) == (4 - len(held), len(held)) and "DeleteObject" not in cuts.kinds()
    done = nights.pruned(backup_set, note=said.append, last=1)
    assert (done.go, done.held, done.exit_code, done.failure) == (4 - len(held), len(held), 0, None)
    assert there(backup_set) == [*held, 5] and verify.verify(backup_set).exit_code == 0
    assert [row.until for row in done.rows if row.plan == "held" and not row.why.startswith("with")] == [until] * (1 + (locked > 2))
    assert [line.endswith("until a lifecycle rule of the bucket removes it for good") for line in said] == [True] * (len(held) < 4)
    removed = objectstore.client.list_object_versions(Bucket=bucket).get("DeleteMarkers", [])
    assert not [one["Key"] for one in removed if int(one["Key"].split(".")[1]) in held]  # nothing half
    when = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(until))
    assert command._report(done, False).count(f"held  kept by the object store until {when}") == 1 + (locked > 2)
    kept = {row["kept_until"] for row in command._json(done, False)["versions"]}
    assert kept <= {None, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(until))} and len(kept) == 2


def test_what_it_kept_long_enough_goes(store, objectstore):
    until = int(time.time()) + SOON
    backup_set = store(objectstore.make_bucket(lock=True), 2, until)
    later = datetime.datetime.fromtimestamp(until + 1, datetime.UTC)
    assert nights.pruned(backup_set, now=later, last=1).go == 4 and there(backup_set) == [5]


def test_without_versions_it_costs_a_request_and_none_if_nothing_goes(store, bucket, cuts):
    backup_set, said = store(bucket), []
    assert nights.pruned(backup_set, note=said.append, last=1).go == 4 and there(backup_set) == [5] and said == []
    assert cuts.kinds()["GetBucketVersioning"] == 2 and "HeadObject" not in cuts.kinds()  # before and after
    cuts.reset()
    assert nights.pruned(backup_set, last=1).go == 0 and "GetBucketVersioning" not in cuts.kinds()


def test_a_prune_and_a_copy_keep_each_other_away(store, bucket, tmp_path):
    backup_set = store(bucket)
    with BackupSet(backup_set.name, Access(locks=str(tmp_path), alone=True)).locked(), pytest.raises(SetLocked):
        nights.pruned(backup_set, last=1)
    assert there(backup_set) == [1, 2, 3, 4, 5]


def test_a_set_that_has_a_lease_is_pruned_under_it(store, bucket, tmp_path):
    """Then a lock of this machine would keep no other one away."""
    backup_set = store(bucket)
    with BackupSet(backup_set.name).locked(), pytest.raises(SetLocked, match="has renewed its lease"):
        nights.pruned(backup_set, last=1)
    with BackupSet(backup_set.name, Access(locks=str(tmp_path), alone=True)).locked():
        assert nights.pruned(backup_set, last=1).go == 4


def test_the_program_prunes_a_copy_in_a_bucket_with_object_lock(store, objectstore, run_verb):
    backup_set = store(objectstore.make_bucket(lock=True), 2, int(time.time()) + SOON)
    done = run_verb("prune", "--keep-last", "1", backup_set.name, env=objectstore.environment)
    assert done.returncode == 0 and b"kept by the object store until" in done.stdout, done.stderr
    assert there(BackupSet(backup_set.name)) == [1, 2, 5]


def test_a_sealed_set_is_refused_with_what_to_do(bucket, objectstore, tmp_path, run_verb):
    source = nights.new(tmp_path / "here", 2, fulls=(2,))[0]
    access = Access(locks=str(tmp_path), alone=True, recipients=(seals.Key().recipient,))
    assert copy.copy(source, BackupSet(f"s3://{bucket}/vol", access), every=True).faults == []
    done = run_verb("prune", "--keep-last", "1", f"s3://{bucket}/vol", env=objectstore.environment)
    assert done.returncode == 55 and b"(hint: back up with --full, copy to another NAME" in done.stderr
    assert len(objectstore.client.list_objects_v2(Bucket=bucket)["Contents"]) == 2 * 4 + 1


def test_where_nobody_may_ask_it_looks_and_says_nothing(store, objectstore):
    bucket, said = objectstore.make_bucket(lock=True), []
    backup_set = store(bucket, 2, int(time.time()) + SOON)
    statement = {"Effect": "Deny", "Principal": "*", "Action": "s3:GetBucketVersioning", "Resource": f"arn:aws:s3:::{bucket}"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    objectstore.client.put_bucket_policy(Bucket=bucket, Policy=policy)
    assert backup_set.place.keeps_removed() is None
    done = nights.pruned(backup_set, note=said.append, last=1)
    assert (done.go, done.held, said) == (2, 2, [])


def test_the_rule_of_the_page_is_one(objectstore):
    bucket = objectstore.make_bucket(versions=True)
    (rules,) = [json.loads(text) for text in Page("blockdiff-prune.1").literal_blocks("DESCRIPTION") if text[0] == "{"]
    objectstore.client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=rules)
    (known,) = objectstore.client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    (rule,) = rules["Rules"]
    assert known == {name: value for name, value in rule.items() if name != "Filter"} | rule["Filter"]


def test_what_holds_for_several_sets_is_printed_once(capsys):
    run = command._Run(None, None, False, 1, None, quiet=False)
    for line in ("s3://one keeps", "s3://one keeps", "s3://two keeps"):
        run._note(line)
    assert capsys.readouterr().err == "blockdiff: s3://one keeps\nblockdiff: s3://two keeps\n"
