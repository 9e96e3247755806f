"""Names: which files are a set's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockdiff.formats import names


@pytest.mark.parametrize("number, data", [(1, b"1\n"), (20, b"20\n"), (10**18 - 1, b"9" * 18 + b"\n")])
def test_ver_goes_both_ways(number, data):
    assert names.encode_ver(number) == data
    assert names.decode_ver(data) == number


@pytest.mark.parametrize(
    "data",
    [b"", b"1", b"\n", b"0\n", b"01\n", b"-1\n", b"+1\n", b" 1\n", b"1 \n", b"1\r\n", b"1\n\n", b"1\n2\n", b"1.0\n"]
    + [b"1_0\n", b"x\n", b"1\0\n", b"9" * 19 + b"\n", "١\n".encode(), "1\n".encode("utf-16")],
)
def test_a_ver_that_is_not_exactly_of_its_form_is_none(data):
    assert names.decode_ver(data) is None


OF_DB = {
    "db.1": (1, ""),
    "db.1.gz": (1, ".gz"),
    "db.2.zst": (2, ".zst"),
    "db.2.md5": (2, ".md5"),
    "db.3.lzop": (3, ".lzop"),
    "db.3.json": (3, ".json"),
    "db.3.xxh128": (3, ".xxh128"),
    "db.999999999999999999.idx": (10**18 - 1, ".idx"),
}
RUN = "r0123456789abcdef"
PARTS = ["db.4.gz.part", "db.4.md5.part", "db.5.part", "db.ver.part"]
PARTS += [f"db.4.gz.{RUN}.part", f"db.4.{RUN}.part", f"db.ver.{RUN}.part"]
# near misses: other sets' files, and what nobody of us writes
NOT_OF_DB = [
    "db", "db.", "db.gz", "db.0", "db.0.gz", "db.01.gz", "db.1.", "db.1.GZ", "db.1.gz.bak", "db.1.gz~", "db.1.bz2",
    "db.11.1.gz", "db.1.1", "db.x.1.gz", "dbx.1.gz", "xdb.1.gz", "DB.1.gz", "db-1.gz", "db .1.gz", "db.1 .gz",
    "db.-1.gz", "db.+1.gz", "db.1e1.gz", "db.1.md5.gz", "db.1.gz\n", "db.١.gz", "db.1.gz.part.part", "db.lock",
    "db.lock.part", "db.ver.gz", "db.1000000000000000000.gz", ".db.1.gz", "db.ver.part.part",
    f"db.4.gz.{RUN}", f"db.4.gz.{RUN[:-1]}.part", f"db.4.gz.{RUN[1:]}.part", f"db.4.gz.{RUN.upper()}.part",
    f"db.lock.{RUN}.part", f"db.{RUN}.part", f"db.4.gz.{RUN}.{RUN}.part",
]  # fmt: skip


def test_a_set_is_exactly_its_files():
    listing = names.list_set("db", [*OF_DB, *PARTS, *NOT_OF_DB, "db.ver"])
    expected = {}
    for number, suffix in OF_DB.values():
        expected.setdefault(number, set()).add(suffix)
    assert listing.versions == expected
    assert sorted(listing.parts) == sorted(PARTS)
    assert listing.has_ver
    assert not names.list_set("db", NOT_OF_DB + list(OF_DB)).has_ver


@pytest.mark.parametrize("name", NOT_OF_DB)
def test_a_file_that_only_looks_like_one_is_not_touched(name):
    listing = names.list_set("db", [name])
    assert (listing.versions, listing.parts, listing.has_ver) == ({}, (), False)


def test_a_runs_name_is_never_a_versions_number():
    name = names.part_name(names.member_name("db", 4, ""), names.run_name(b"\x11" * 8))
    assert name == "db.4.r1111111111111111.part"
    assert names.list_set("db", [name]).parts == (name,)
    assert names.list_set("db.4", [name]).parts == ()


def test_a_set_may_be_called_like_anothers_version():
    there = ["db.ver", "db.1.gz", "db.1.ver", "db.1.1.gz", "db.1.1.md5"]
    assert names.list_set("db", there).versions == {1: {".gz"}}
    assert names.list_set("db.1", there).versions == {1: {".gz", ".md5"}}
    assert names.set_names(there) == ["db", "db.1"]


@given(st.text(min_size=1, max_size=12).filter(lambda s: "/" not in s), st.integers(1, 10**18 - 1))
def test_any_base_name_has_its_own_files_and_no_others(base, number):
    members = [names.member_name(base, number, suffix) for suffix in names.DIFF_SUFFIXES + names.BESIDE_SUFFIXES]
    listing = names.list_set(base, [*members, names.ver_name(base), names.lock_name(base)])
    assert listing.versions == {number: set(names.DIFF_SUFFIXES + names.BESIDE_SUFFIXES)}
    assert listing.has_ver and not listing.parts
    assert names.list_set(base + ".x", members).versions == {}
    assert base in names.set_names([*members, names.ver_name(base)])


def test_listings_tell_what_lies_above_and_which_diffs_there_are():
    listing = names.list_set("v", ["v.2.zst", "v.2.gz", "v.2", "v.2.md5", "v.7.gz", "v.3.json"])
    assert listing.above(2) == [3, 7] and listing.above(7) == []
    assert listing.diffs(2) == ["", ".gz", ".zst"]
    assert listing.diffs(3) == listing.diffs(9) == []


def test_a_version_whose_digest_file_is_put_aside_is_being_removed():
    there = ["v.2.md5.part", "v.2.gz", "v.2.json", "v.2.idx", "v.2.xxh128", "v.3.md5.part", "v.4.gz", "v.4.md5"]
    listing = names.list_set("v", there)
    assert listing.dropping == {2, 3} and listing.parts == ()
    assert listing.versions == {4: {".gz", ".md5"}}


@pytest.mark.parametrize(
    "there",
    [
        ["v.2.md5.part", "v.2.md5", "v.3.md5"],  # the numbers were begun anew
        ["v.2.md5.part", "v.1.md5"],  # of a run that died, of an earlier version of the program
        [f"v.2.md5.{RUN}.part", "v.3.md5"],
        ["v.2.gz.part", "v.3.md5"],
    ],
)
def test_any_other_temporary_file_is_a_draft(there):
    listing = names.list_set("v", [*there, "v.2.gz"])
    assert listing.dropping == frozenset() and listing.parts == (there[0],)
    assert 2 in listing.versions
