"""Whatever ends a backup, its snapshot is removed from the source host: at once, soon, or by the next run."""

import time

import pytest

from . import runs
from .agents import eventually, md5, snapshots
from .runs import SSH, finished, owners, reading, restored, run, unpublished, volume

pytestmark = pytest.mark.lab

TIMEOUT_S = 5
MORE_S = 15  # that the supervisor waits beyond the timeout


@pytest.mark.parametrize("reach", [(), SSH])
def test_the_server_is_killed(guest, tmp_path, reach):
    path = volume(guest)
    line = (*reach, tmp_path / "set", f"root@db00:{path}")
    with reading(guest, *line) as process:
        process.kill()
        process.wait()
        eventually(lambda: runs.bare(guest))
    left = {file.name for file in tmp_path.iterdir()} - {"set.lock"}
    assert all(name.endswith(".part") for name in left)  # of which the next run makes an end
    run(guest, "blockdiff-backup", *line)

    assert not list(tmp_path.glob("*.part"))
    assert restored(tmp_path / "set", tmp_path / "out") == md5(guest, path)


@pytest.mark.parametrize(
    ("reader", "supervisor"), [(True, False), (False, True), (True, True)], ids=["reader", "supervisor", "both"]
)
def test_the_agent_or_the_owner_of_its_snapshot_is_killed(guest, tmp_path, reader, supervisor):
    path = volume(guest)
    with reading(guest, tmp_path / "no", f"root@db00:{path}") as process:
        (snapshot,) = snapshots(guest)
        pids = owners(guest)
        guest.run(f"kill -KILL {pids[0] if reader else ''} {pids[1] if supervisor else ''}")
        said = finished(process, 23)

    assert snapshots(guest) == []  # by now, and not merely soon: the server looked again
    assert not (reader and supervisor) or f"removed {snapshot}, which run" in said
    assert unpublished(tmp_path / "no")
    eventually(lambda: runs.bare(guest))


def test_a_dump_looks_again_as_well(guest, tmp_path):
    path = volume(guest)
    streams = ("--output", tmp_path / "dump", "--digests-out", tmp_path / "new")
    with reading(guest, *streams, "root@db00", path, program="ssh-lvm-dump") as process:
        guest.run(f"kill -KILL {' '.join(owners(guest))}")
        finished(process, 23)

    assert snapshots(guest) == []
    assert not (tmp_path / "dump").exists()


def test_what_nobody_could_remove_the_next_run_removes(guest, tmp_path):
    path = volume(guest)
    line = (tmp_path / "set", f"root@db00:{path}")
    with reading(guest, *line) as process:
        (snapshot,) = snapshots(guest)
        pids = " ".join(owners(guest))
        guest.run(f"kill -STOP {pids}")
        process.kill()
        process.wait()
        guest.run(f"kill -KILL {pids}")
    assert snapshots(guest) == [snapshot]
    said = run(guest, "blockdiff-backup", *line).stderr

    assert f"removed {snapshot}, which run" in said
    assert runs.bare(guest)
    assert restored(tmp_path / "set", tmp_path / "out") == md5(guest, path)


@pytest.mark.parametrize("reach", [(), SSH])
def test_the_network_is_cut(guest, tmp_path, reach):
    path = volume(guest)
    with reading(guest, "--timeout", str(TIMEOUT_S), *reach, tmp_path / "no", f"root@db00:{path}") as process:
        guest.cut_network()
        cut = time.monotonic()
        said = finished(process, 25)
        guest.restore_network()
        assert f"no data from db00 for {TIMEOUT_S} seconds" in said
        assert "cannot look for the snapshot of this run" in said
        eventually(lambda: runs.bare(guest), max(0.0, cut + TIMEOUT_S + MORE_S + 5 - time.monotonic()))
    assert unpublished(tmp_path / "no")


def test_the_source_loses_power(guest, tmp_path):
    path = volume(guest)
    line = (tmp_path / "set", f"root@db00:{path}")
    with reading(guest, "--timeout", "3", *line) as process:
        (snapshot,) = snapshots(guest)
        guest.run("sync")
        guest.kill()
        finished(process, 25)
    assert unpublished(tmp_path / "set")
    guest.boot()
    assert snapshots(guest) == [snapshot]
    said = run(guest, "blockdiff-backup", *line).stderr

    assert f"removed {snapshot}, which run" in said
    assert runs.bare(guest)
    assert restored(tmp_path / "set", tmp_path / "out") == md5(guest, path)
