"""The lease on a set in an object store: one run has it, others see who; it ends when it is given back or old."""

import threading

import pytest
from programs import until

from blockdiff.errors import BlockdiffError, ForeignFiles, SetLocked, StoreRefused
from blockdiff.place import lease
from blockdiff.place.lease import Lease

pytestmark = pytest.mark.store


@pytest.fixture
def make(at):
    """Return a function that makes a lease on the set db, and what `held` asks for the objects."""
    opened = at()

    def make(**options):
        return Lease(opened, "db", **options), lambda: opened.list("db")

    make.bucket = opened
    return make


def leases(bucket):
    return sorted(bucket.list("db."))


def test_one_run_has_it_and_another_sees_who(make):
    (one, listed), (other, _) = make(), make()
    with one.held(listed, 0):
        with pytest.raises(SetLocked, match=r"locked by another run.*run '?[0-9a-f]{16}'? on .*, process \d+, has renewed"):
            with other.held(listed, 0):
                pass
        one.check()
    third, _ = make()
    with third.held(listed, 0):  # it was given back
        assert leases(make.bucket) == ["db.lease-2"]


def test_of_many_that_begin_at_once_one_has_it(make):
    results, gate = [], threading.Barrier(6)

    def begin():
        own, listed = make()
        found = listed()
        gate.wait()
        try:
            own._take(own._of(found))
            results.append(own)
        except SetLocked:
            pass

    threads = [threading.Thread(target=begin) for _ in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(results) == 1


def test_what_is_old_is_taken_over_and_who_had_it_writes_nothing_more(make, monkeypatch):
    (one, listed), (other, _) = make(), make()
    with one.held(listed, 0):
        monkeypatch.setattr(lease, "DEAD_S", -1)
        with other.held(listed, 0):
            with pytest.raises(SetLocked, match="taken it over"):
                one.renew()
            with pytest.raises(SetLocked):
                one.check()
            other.renew()
            other.check()


def test_who_was_passed_by_others_that_have_ended_sees_it(make, monkeypatch):
    monkeypatch.setattr(lease, "DEAD_S", -1)
    (one, listed), (other, _) = make(), make()
    with one.held(listed, 0):
        with other.held(listed, 0):
            other.renew()  # 2 and 3; 1 and 2 are gone
            assert leases(make.bucket) == ["db.lease-3"]
            with pytest.raises(SetLocked, match="taken it over"):
                one.renew()  # 2 is free again
        third, _ = make()
        with third.held(listed, 0):
            assert leases(make.bucket) == ["db.lease-4"]


def test_a_person_can_break_it(make):
    (one, listed), (other, _) = make(), make(may_break=True)
    with one.held(listed, 0), other.held(listed, 0):
        other.check()
        with pytest.raises(SetLocked):
            one.renew()


def test_it_is_renewed_meanwhile(make, monkeypatch):
    monkeypatch.setattr(lease, "RENEW_S", 0.02)
    own, listed = make()
    with own.held(listed, 0):
        until(lambda: own._number > 3)
        own.check()


def test_who_could_not_renew_it_in_time_writes_nothing_more(make, monkeypatch):
    own, listed = make()
    with own.held(listed, 0):
        own.secure()
        assert leases(make.bucket) == ["db.lease-1"]
        monkeypatch.setattr(lease, "LEFT_S", lease.LOST_S)
        own.secure()
        assert leases(make.bucket) == ["db.lease-2"]
        monkeypatch.setattr(lease, "LOST_S", -1.0)
        with pytest.raises(SetLocked, match="could not be renewed"):
            own.check()
        with pytest.raises(SetLocked):
            own.secure()


@pytest.mark.parametrize("body", [b"", b"{}", b"[" * 3000, b'{"host": "\x1b[2J", "run": 1, "pid": 2}', b"x" * 10000])
def test_what_another_wrote_is_only_data(make, body):
    make.bucket.put("db.lease-7", body)
    own, listed = make()
    with pytest.raises(SetLocked) as caught, own.held(listed, 0):
        pass
    assert str(caught.value).isprintable() and "does not say where it is" in str(caught.value)


def test_a_number_that_no_run_reaches(make):
    make.bucket.put("db.lease-999999999999999999", b"")
    own, listed = make()
    with pytest.raises(ForeignFiles), own.held(listed, 0):
        pass


def test_names_of_other_sets_are_none(make):
    for name in ("db.lease-1.gz", "db2.lease-1", "db.lease-01", "db.lease-", "db.lease-1\n"):
        assert lease.number_of("db", name) is None
    assert lease.number_of("db", "db.lease-12") == 12


def test_a_store_that_replaces_what_is_there_is_refused(cuts, at):
    opened = at(endpoint=cuts.url)
    own = Lease(opened, "db")
    cuts.reset(n3=200)  # to the second creation
    with pytest.raises(StoreRefused, match="replaces an object") as caught, own.held(lambda: opened.list("db"), 0):
        pass
    assert caught.value.exit_code == 18 and opened.list() == {}


def test_what_the_store_refuses_ends_the_run(cuts, at):
    opened = at(endpoint=cuts.url)
    own = Lease(opened, "db")
    cuts.reset(n2=501)
    with pytest.raises(BlockdiffError) as caught, own.held(lambda: opened.list("db"), 0):
        pass
    assert caught.value.exit_code == 18
