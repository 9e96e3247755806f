"""Base snapshots: which one may be compared with, and when one is not kept any longer."""

import pytest

from agent.snapshots import bases, lvm
from agent.snapshots.bases import Base
from blockdiff.wire.request import HintRequest

NOW = 1_700_000_000
DAY = 86400
BASE = Base("feed", "7", "ab" * 32, "uuid-of-lv", str(NOW - DAY), "65536")
WANTED = HintRequest(version=8, base=7, sha256="ab" * 32, whole=False)
VOLUME = lvm.Volume("/dev/vg/lv", "vg", "lv", "uuid-of-lv", "lvm-thin", 1, None, 1, 1, "pool", 10.0, 10.0, "")


def row(base=BASE, **changes):
    tags = "other," + ",".join(base.tags())
    return {"vg_name": "vg", "lv_name": "b", "lv_tags": tags, "lv_attr": "Vri---tz-k", "origin": "lv", "pool_lv": "pool",
            "lv_merging": "", **changes}  # fmt: skip


def pool(data="10", metadata="10", health=""):
    return {"vg_name": "vg", "lv_name": "pool", "data_percent": data, "metadata_percent": metadata, "lv_health_status": health}


def test_tags_and_back():
    assert bases.parse(BASE.tags()) == BASE
    assert "blockdiff" not in BASE.tags()  # by which a sweep knows what a run left
    for tag in BASE.tags()[1:]:
        assert bases.parse([other for other in BASE.tags() if other != tag]) is None
    assert bases.parse(BASE._replace(mapped="many").tags()) is None


@pytest.mark.parametrize("base, found, pool_row, why", [
    (BASE, WANTED, pool(), None),
    (BASE, None, pool(), "not asked for"),
    (BASE, WANTED._replace(base=8), pool(), "not continued"),
    (BASE, WANTED._replace(base=None, sha256=None), pool(), "not continued"),
    (BASE, WANTED._replace(sha256="ac" * 32), pool(), "not continued"),
    (BASE._replace(set="other"), None, pool(), None),
    (BASE._replace(kept=str(NOW - 14 * DAY)), WANTED, pool(), None),
    (BASE._replace(kept=str(NOW - 14 * DAY - 1)), WANTED, pool(), "older than 14 days"),
    (BASE._replace(kept=str(NOW - 15 * DAY), set="other"), WANTED, pool(), "older than 14 days"),
    (BASE._replace(kept=str(NOW + 2 * DAY)), WANTED, pool(), "older"),
    (BASE, WANTED, pool(data="80.00"), None),
    (BASE, WANTED, pool(data="80.01"), "80 % full"),
    (BASE._replace(set="other"), WANTED, pool(metadata="85"), "80 % full"),
    (BASE, WANTED, pool(health="failed"), "unhealthy: failed"),
    (BASE, WANTED, {**pool(data="99"), "lv_name": "another"}, None),
])  # fmt: skip
def test_when_a_base_goes(base, found, pool_row, why):
    told = bases.useless(row(base), [row(base), pool_row], "feed", found, now=NOW)
    assert told is None if why is None else why in told


@pytest.mark.parametrize("changes", [
    {"origin": "other"}, {"origin": ""}, {"vg_name": "vg2"}, {"pool_lv": "other"}, {"lv_attr": "Vwi---tz-k"}, {"lv_attr": "Ori---tz-k"},
    {"lv_merging": "merging"}, {"lv_tags": ",".join(BASE._replace(of="another").tags())},
    {"lv_tags": ",".join(BASE._replace(version="6").tags())}, {"lv_tags": ",".join(BASE._replace(md5="cd" * 32).tags())},
    {"lv_tags": "blockdiff.base,blockdiff.version.7"},
])  # fmt: skip
def test_only_the_parents_own_base_is_compared_with(changes):
    good = row()
    assert bases.usable([good], VOLUME, WANTED) is good
    assert "base of version 7" in bases.usable([row(**changes)], VOLUME, WANTED)
    assert "no base of version 7" in bases.usable([], VOLUME, WANTED)


def test_a_base_that_is_being_merged_is_none_of_its_set():
    good = row()
    assert bases.of_set("feed", [good, row(lv_name="[b]"), row(BASE._replace(set="other"))]) == [good]
