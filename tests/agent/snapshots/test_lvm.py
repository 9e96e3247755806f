"""What is not a report of LVM's as we ask for it is an error that says so, never taken for an answer.

Real LVM: tests/lab/test_lvm.py.
"""

import pytest
from reports import UUID, report, row

from agent.errors import AgentError
from agent.snapshots import lvm
from agent.snapshots.runner import ProgramFailed, Runner


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "cannot be read"),
        ("lvs{}", "cannot be read"),
        ("[]", "cannot be read"),
        ("{}", "cannot be read: 'report'"),
        ('{"report": [1]}', "cannot be read"),
        ('{"report": [{"lv": [1]}]}', "cannot be read"),
        (report({name: text for name, text in row().items() if name != "lv_tags"}), "has no lv_tags"),
        (report(row(lv_size=7)), "has no lv_size"),
        (report(row(lv_size="1.50g")), "has '1.50g' as lv_size"),
        (report(row(vg_free_count="")), "has '' as vg_free_count"),
    ],
)
def test_a_report_that_cannot_be_used_is_the_reason(lvs, text, words):
    lvs(text)
    with pytest.raises(ProgramFailed) as refused:
        lvm.by_uuid(UUID, "/dev/vg0/lv0", lvm.every(Runner()))
    assert words in refused.value.reason


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, None),
        ({"lv_attr": "owi-a-----"}, None),  # an origin with snapshots
        ({"lv_attr": "swi-a-----", "origin": "lv9"}, "it is itself a snapshot, of lv9"),
        ({"lv_attr": "Vwi-a---tk", "origin": "lv9", "segtype": "thin"}, "it is itself a snapshot, of lv9"),
        ({"lv_attr": "Vwi-a---t-", "origin": "lv9", "segtype": "thin"}, None),  # a clone that is used by itself
        ({"lv_attr": "Owi-a-----"}, "a snapshot is being merged into its origin there"),
        ({"lv_merging": "merging"}, "a snapshot is being merged into its origin there"),
        ({"lv_attr": "twi-a-----"}, "it is a thin pool"),
        ({"lv_attr": "iwi-a-----"}, "it is an image of a RAID or mirror"),
    ],
)
def test_what_cannot_be_snapshotted_has_a_reason(changed, reason):
    rows = [row(**changed), row(lv_uuid="pool", lv_name="[pool]")]
    assert lvm.by_uuid(UUID, "/dev/vg0/lv0", rows).refusal == reason


def test_a_row_becomes_a_volume():
    rows = [row(vg_name="vg0", lv_name="lv0", lv_size="8388608", vg_extent_size="4194304", vg_free_count="7")]
    found = lvm.by_uuid(UUID, "/dev/x", rows)
    assert (found.name, found.path, found.uuid, found.kind) == ("vg0/lv0", "/dev/x", UUID, "lvm-thick")
    assert (found.size, found.extent_size, found.vg_extents_free, found.pool) == (8388608, 4194304, 7, None)


def test_a_volume_that_is_gone_is_none():
    assert lvm.by_uuid(UUID, "/dev/x", [row(lv_uuid="another")]) is None


def test_a_thin_volume_has_its_pool():
    thin = row(vg_name="vg0", lv_name="lv0", segtype="thin", pool_lv="[pool]")
    other, pool = (row(vg_name=vg, lv_name="pool", lv_uuid=vg, data_percent=percent) for vg, percent in (("vg1", "9"), ("vg0", "7.5")))
    found = lvm.by_uuid(UUID, "/dev/x", [thin, other, pool])
    assert (found.kind, found.pool, found.pool_data_percent, found.pool_health) == ("lvm-thin", "pool", 7.5, "")
    with pytest.raises(ProgramFailed, match=r"it does not list vg0/\[pool\]"):
        lvm.by_uuid(UUID, "/dev/x", [thin, other])


def test_a_volume_has_one_row_however_many_segments_it_has(lvs):
    lvs(report(row(thin_id="1"), row(thin_id="2"), row(lv_uuid="another")))
    assert [found["thin_id"] for found in lvm.every(Runner())] == ["1", ""]


def test_a_uuid_is_written_as_lvm_does():
    assert lvm._dashed("abcdefGHIJklmnOPQRstuvWXYZ012345") == "abcdef-GHIJ-klmn-OPQR-stuv-WXYZ-012345"


def test_a_file_is_no_logical_volume_and_an_inactive_one_is_named(lvs, tmp_path):
    lvs(report(row(vg_name="vg0", lv_name="lv0", lv_path="/dev/vg0/lv0", lv_skip_activation="skip activation")))
    assert lvm.find(str(tmp_path), Runner()) == (None, [])
    assert lvm.find("/nonexistent", Runner()) == (None, [])
    with pytest.raises(AgentError, match="it is not active; lvchange -ay -K vg0/lv0 would activate it"):
        lvm.find("/dev/vg0/lv0", Runner())
