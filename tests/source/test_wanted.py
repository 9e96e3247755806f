"""What a user asked for becomes a request."""

from blockdiff.sets.backupset import BackupSet
from blockdiff.source.wanted import AUTO, MUST, NONE, Wanted, request, set_tag

AGREED = {"block_size": 4096, "digest": "md5"}


def test_a_request_has_what_was_asked_for():
    wanted = Wanted("/vol", threads=3, bwlimit=7, timeout_s=5.0, live=True, pack_wire=True)
    made = request(wanted, "tag", "run", **AGREED)
    assert (made.path, made.jobs, made.bwlimit, made.timeout_s) == ("/vol", 3, 7, 5.0)
    assert (made.users, made.compress, made.look, made.ended) == (False, True, False, None)


def test_a_snapshot_is_asked_for_unless_the_source_is_read_live():
    assert request(Wanted("/vol", snapshot=NONE), "tag", "run", **AGREED).snapshot is None
    for snapshot in (AUTO, MUST):
        made = request(Wanted("/vol", snapshot=snapshot, snapshot_size="15%"), "tag", "run", **AGREED).snapshot
        assert (made.size, made.set, made.run, made.must) == ("15%", "tag", "run", snapshot == MUST)


def test_a_sets_tag_is_the_same_wherever_it_is_named_from(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert set_tag(BackupSet("db")) == set_tag(BackupSet(str(tmp_path / "db"))) != set_tag(BackupSet("web"))
