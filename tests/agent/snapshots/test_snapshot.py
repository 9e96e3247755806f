"""A snapshot as LVM reports it, told by a program that only prints reports; real ones: tests/lab/test_lvm.py."""

import pytest
from reports import UUID, report, row

from agent.snapshots import lvm, snapshot, tags
from agent.snapshots.runner import Runner

THICK = snapshot.Snapshot("/dev/vg/lv", "vg", "snap", UUID, "/dev/dm-9", "lvm-thick", 1 << 30, 4 << 20, 100, None)
THIN = THICK._replace(kind="lvm-thin", most=0, pool="pool")
POOL = row(lv_uuid="pool", lv_name="pool", data_percent="40.5", metadata_percent="3", vg_free_count="5")


@pytest.mark.parametrize(
    ("made", "rows", "usage"),
    [
        (THICK, [row(data_percent="12.5", lv_size=str(8 << 20), vg_free_count="5")], (12.5, 2, 5, None)),
        (THICK, [row(data_percent="", lv_size=str(8 << 20), vg_free_count="5")], (0.0, 2, 5, None)),
        (THICK, [row(lv_snapshot_invalid="snapshot invalid", lv_size="0")], (0.0, 0, 1, "the kernel invalidated it")),
        (THICK, [row(lv_attr="swi-I-s---", lv_size="0")], (0.0, 0, 1, "the kernel invalidated it")),
        (THICK, [], (0.0, 0, 0, "it was removed")),
        (THIN, [row(vg_free_count="5"), POOL], (40.5, 0, 5, None)),
        (THIN, [row(vg_free_count="5")], (0.0, 0, 5, "its thin pool was removed")),
        (
            THIN, [row(vg_free_count="5"), {**POOL, "data_percent": "97"}],
            (97.0, 0, 5, "the thin pool vg/pool is 97.0 % full (data), the limit is 97 %"),
        ),
    ],
)  # fmt: skip
def test_how_full_a_snapshot_is(lvs, made, rows, usage):
    lvs(report(*rows))
    assert snapshot.look(made, Runner()) == usage


def test_its_name_is_of_the_run_and_the_origin():
    volume = lvm.Volume("/dev/x", "vg", "lv", UUID, "lvm-thick", 1, None, 1, 1, None, None, None, "")
    names = {
        snapshot.name(volume._replace(uuid=uuid), tags.current("set", run)) for uuid in (UUID, "other") for run in ("a" * 40, "b")
    }
    assert len(names) == 4
    assert all(name.startswith("vg/blockdiff_") and "-" not in name and len(name) < 64 for name in names)


def test_what_is_gone_is_removed_and_what_is_not_ours_stays(lvs):
    owner = tags.current("set", "run")
    volume = lvm.Volume("/dev/x", "vg", "lv", UUID, "lvm-thick", 1, None, 1, 1, None, None, None, "")
    lvs(report())
    assert snapshot.remove(THICK, Runner(), sleep=None) is None
    lvs(report(row(lv_tags="somebody.elses")))
    assert snapshot.discard(volume, owner, Runner(), sleep=None) == "its tags are not those that it was made with"


def test_a_removal_that_fails_is_tried_again_and_then_told(lvs):
    waited = []
    lvs("no report today", code=5)
    assert snapshot.remove(THICK, Runner(), waits_s=(1.0, 2.0), sleep=waited.append) == "lvs: no report today"
    assert waited == [1.0, 2.0]
