"""Device mapper's words, as dmsetup prints them; real ones beside LVM's: tests/lab/test_lvm.py."""

import pytest
from reports import UUID

from agent.snapshots import mapper, snapshot
from agent.snapshots.runner import ProgramFailed

GROUP = "LVM-" + 32 * "g"
THICK = snapshot.Snapshot("/dev/vg/lv", "vg", "snap", UUID, "/dev/dm-9", "lvm-thick", 1 << 30, 4 << 20, 100, None)
THIN = THICK._replace(kind="lvm-thin", most=0, pool="pool")
POOL = "0 8192 thin-pool 1 27/4096 64/128 - {} discard_passdown queue_if_no_space {} 1024 \n"


@pytest.fixture
def device(tmp_path, monkeypatch):
    """The folder in sysfs of the snapshot, which is in a thin pool."""
    for place, name, uuid in (("", "vg-snap", UUID.replace("-", "")), ("slaves/dm-4", "vg-pool-tpool", "p-tpool")):
        folder = tmp_path / place / "dm"
        folder.mkdir(parents=True)
        (folder / "name").write_text(name + "\n")
        (folder / "uuid").write_text(GROUP + uuid + "\n")
    monkeypatch.setattr(mapper, "folder", lambda path: str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("made", "said", "usage"),
    [
        (THICK, "0 65536 snapshot 16/81920 16\n", (pytest.approx(0.0195, abs=1e-4), 10, None, None)),
        (THICK, "0 65536 snapshot 81920/81920 320\n", (100.0, 10, None, None)),
        (THICK, "0 65536 snapshot Invalid\n", None),
        (THICK, "0 65536 snapshot Overflow\n", None),
        (THICK, "0 65536 snapshot\n", None),
        (THICK, "0 65536 linear 254:3 0\n", None),
        (THICK, "", None),
        (THIN, POOL.format("rw", "-"), (50.0, 0, None, None)),
        (THIN, POOL.format("rw", "needs_check"), None),
        (THIN, POOL.format("ro", "-"), None),
        (THIN, POOL.format("out_of_data_space", "-"), None),
        (THIN, POOL.format("rw", "-").replace("64/128", "125/128"), None),
        (THIN, POOL.format("rw", "-").replace("27/4096", "4000/4096"), None),
        (THIN, "0 8192 thin-pool Fail\n", None),
    ],
)
def test_only_a_healthy_snapshot_is_told_without_lvm(device, made, said, usage):
    assert snapshot.glance(made, lambda *words: said) == usage


def test_a_device_of_another_volume_is_not_looked_at(device):
    (device / "dm" / "uuid").write_text(GROUP + 32 * "x")
    assert snapshot.glance(THICK, None) is None


def test_a_dmsetup_that_fails_tells_nothing(device):
    def run(*words):
        raise ProgramFailed("dmsetup", 1, "no such device")

    assert snapshot.glance(THICK, run) is None
    assert snapshot.glance(THIN, run) is None
