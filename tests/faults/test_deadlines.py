"""Every wait has its end: a source that lives and does nothing, a lock that is gone, a run that takes too long."""

import concurrent.futures
import os
import socket
import subprocess
import sys
import threading
import time

import click
import pytest
from conftest import ROOT
from hostile import BLOCK, HONEST, Played, Set, put_together, raw, talk
from launched import Launched
from launched import Set as Written

from agent import buffers, extents, native, scan, sender, volume
from blockdiff import backup
from blockdiff.commands import amounts
from blockdiff.errors import HostSilent, LockLost
from blockdiff.ingest.job import Job
from blockdiff.locking import lockcommand
from blockdiff.sets.backupset import BackupSet
from blockdiff.source.wanted import Wanted
from blockdiff.wire import frames, messages
from blockdiff.wire.link import Link
from blockdiff.wire.request import Request

PING = raw(messages.PING)
HELLO, OPENED, EXTENT, DATA = HONEST[1][:4]
READY = talk(messages.READY, size=1, kind="lvm-thick", lv_uuid="x", same=True, room=None)
TAKEN = talk(messages.TAKEN)
NO_SIGN = "no data from localhost but heartbeats, while it {}, for 0.5 seconds"


# no progress


PHASES = {
    "hello": ([], PING, "started"),
    "ready": ([HELLO], PING, "opened the volume"),
    "taken": ([HELLO, READY], PING, "made the snapshot"),
    "opened": ([HELLO, READY, TAKEN], PING, "opened the volume"),
    "first extent": ([HELLO, OPENED], PING, "read the volume"),
    "next extent": ([HELLO, OPENED, EXTENT, DATA], PING, "read the volume"),
    "notes": ([HELLO, OPENED], raw(*talk(messages.NOTE, text="x")), "read the volume"),
    "a half": ([HELLO, OPENED, PING[:2]], PING[2:] + PING[:2], "read the volume"),
}


def test_an_agent_that_only_gives_signs_of_life_is_given_up():
    """In each phase; a note is no progress, and a piece of a heartbeat is none."""

    def verdict(said, endless, phase):
        with Set(1) as it:
            error = it.refuses(put_together(said), played={"endless": endless}, progress_s=0.5)
            assert isinstance(error, HostSilent) and error.exit_code == 25
            assert NO_SIGN.format(phase) in str(error) and "--progress-timeout" in error.hint
            it.back_up(put_together(HONEST[1]))
            it.is_whole()

    with concurrent.futures.ThreadPoolExecutor(len(PHASES)) as pool:
        found = {name: pool.submit(verdict, *case) for name, case in PHASES.items()}
    assert {name: repr(each.exception()) for name, each in found.items() if each.exception()} == {}


def test_a_version_is_there_though_its_agent_never_ends():
    with Set(1) as it:
        outcome = it.back_up(put_together(HONEST[1][:-1]), played={"endless": PING}, progress_s=0.5)
        assert outcome.exit_code == 3
        (warning,) = outcome.warnings
        assert warning.startswith("backup complete; ending the agent failed: ")
        assert NO_SIGN.format("cleaned up") in warning
        it.is_whole()


def test_blocks_that_come_slowly_are_progress():
    """Each in less than the limit, all of them in more; also where a frame arrives in pieces."""
    ends = socket.socketpair()
    frame = frames.encode(messages.DATA, bytes(12))

    def say():
        ends[1].sendall(PING)
        for place in range(0, len(frame), 4):
            ends[1].sendall(frame[place : place + 4])
            time.sleep(0.3)

    thread = threading.Thread(target=say)
    with Link(ends[0].recv, ends[0].sendall, 2.0) as link:
        link.await_progress(0.8)
        thread.start()
        assert link.receive() == (messages.DATA, bytes(12))
        thread.join()
        for end in ends:
            end.shutdown(socket.SHUT_RDWR)
            end.close()


def test_a_side_that_is_not_waited_for_may_take_its_time():
    """As that of another source, which is read later."""
    ends = socket.socketpair()
    with Link(ends[0].recv, ends[0].sendall, 30.0) as link:
        link.await_progress(0.3)
        link.await_progress(None)
        assert not link.ready(1.2)
        ends[1].sendall(frames.encode(messages.DATA, b"x"))
        assert link.ready(10)
        for end in ends:
            end.shutdown(socket.SHUT_RDWR)
            end.close()


@pytest.mark.parametrize("patience_s", [0.0, 3600.0])
def test_a_volume_without_changes_is_told_of_as_it_is_read(tmp_path, monkeypatch, patience_s):
    """What is unchanged is joined, but not for ever: the server waits for signs of progress."""
    monkeypatch.setattr(sender, "_REPORT_S", patience_s)
    path = tmp_path / "vol"
    path.write_bytes(os.urandom(BLOCK) * 100_000)
    old = native.digester("md5").digest(path.read_bytes()[:BLOCK])
    source = volume.Volume(os.fsencode(path))
    sent = []

    class Way(sender.Sender):
        def send(self, kind, parts, later=False):
            assert kind == messages.EXTENT
            done = sum(count for _, count in sent)
            extent = messages.decode_extent(b"".join(parts), done, 100_000)
            sent.extend(extent.runs)

    pool = buffers.Private(scan.buffer_size(source, BLOCK))
    asked = Request(str(path), BLOCK, "md5", 1.0, jobs=1)
    work = scan.Scan(source, asked, lambda count: old * count, lambda: False, pool)
    Way(None, 0, 0).send_extents(work.results())
    source.close()
    assert {what for what, _ in sent} == {messages.SAME} and sum(count for _, count in sent) == 100_000
    assert len(sent) == (1 if patience_s else -(-100_000 // extents.blocks_read(BLOCK)))


# the lock, while the snapshot is made


@pytest.mark.parametrize(
    "lines",
    ["sleep 60 & \"$@\" & sleep 0.3; kill $!; exit 1", "\"$@\" & sleep 0.3; kill -KILL $!; wait; exec sleep 60", "\"$@\" & sleep 0.3"],
    ids=["it gave up", "its gate died", "it ended"],
)  # fmt: skip
def test_a_lock_that_is_gone_while_the_snapshot_is_made_ends_the_run(tmp_path, monkeypatch, lines):
    """An lvcreate that hangs gives no sign but heartbeats; nobody waits for it any more."""
    monkeypatch.setattr(lockcommand, "STOP_S", 1.0)
    script = tmp_path / "lock"
    script.write_text(f"#!/bin/sh\n{lines}\n")
    script.chmod(0o755)
    stream = put_together([HELLO, READY])
    with Set(1) as it:
        job = Job(
            BackupSet(str(it.folder / "set")), Wanted("/vol", block_size=BLOCK), lambda: Played(stream, endless=PING)
        )
        with pytest.raises(LockLost, match="ended too early"):
            backup.run(job, cores=2, quiesce=lambda: lockcommand.locked([str(script)], log=lambda line: None))
        assert not list(it.folder.glob("set.*[!k]"))
        it.back_up(put_together(HONEST[1]))
        it.is_whole()


# the whole run


@pytest.fixture
def written(tmp_path):
    """A set that has one version of a volume, which has changed since in every block."""
    found = Written(tmp_path / "backups")
    found.source = tmp_path / "vol"
    found.source.write_bytes(os.urandom(300_000))
    with Launched("blockdiff-backup", found.name, found.source) as process:
        assert process.finish()[0] == 0
    found.versions[1] = found.source.read_bytes()
    found.source.write_bytes(os.urandom(300_000))
    return found


def test_a_run_that_takes_too_long_ends_and_leaves_nothing(written):
    """Nor goes it on with another source."""
    before = written.files()
    slow = ("--bwlimit", "10K", "--max-time", "1s", "--with", written.folder / "other", written.source)
    with Launched("blockdiff-backup", *slow, written.name, written.source) as process:
        code, _, err = process.finish()
        assert process.gone()
    assert (code, err[-1]) == (28, "blockdiff: the run was ended after 1 seconds, the limit of --max-time")
    assert written.files() == before
    written.check()
    with Launched("blockdiff-backup", "--max-time", "2h", written.name, written.source) as process:
        assert process.finish()[0] == 0
    written.versions[2] = written.source.read_bytes()
    written.check()


def test_a_command_that_takes_too_long_is_ended_with_the_run(written):
    before = written.files()
    words = (written.name, "--", sys.executable, "-c", "import time; time.sleep(60)")
    with Launched("blockdiff-backup", "--max-time", "1", *words) as process:
        code, _, err = process.finish()
        assert process.gone()
    assert code == 28, err
    assert written.files() == before


def test_a_dump_that_takes_too_long_is_none(written, tmp_path):
    to = ("--output", tmp_path / "dump", "--digests-out", tmp_path / "md5")
    with Launched("blockdiff-dump", *to, "--bwlimit", "10K", "--max-time", "1", written.source) as process:
        assert process.finish()[0] == 28
        assert process.gone()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backups", "vol"]


ENDING = """
import os, signal, sys, time, click
from blockdiff.commands import exits
@click.command()
def command():
    exits.limit(0.4)
    try:
        if sys.argv[1] == "TERM first":
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)
    finally:
        if sys.argv[1] == "limit first":
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.8)
        print("cleaned up")
exits.run(command, "x")
"""


@pytest.mark.parametrize("order, code", [("TERM first", 143), ("limit first", 28)])
def test_whatever_ends_a_run_first_is_not_cut_short_by_the_other(order, code):
    words = [sys.executable, "-c", ENDING.replace("sys.argv[1]", repr(order))]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (code, "cleaned up\n"), done.stderr


@pytest.mark.parametrize("text, seconds", [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200), ("1d", 86400)])
def test_a_time_is_in_seconds_unless_it_says_otherwise(text, seconds):
    assert amounts.Seconds(86400).convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["0", "0.5s", "-1", "1w", "1h30m", "", "2d", "nan"])
def test_what_is_no_time_is_wrong_usage(text):
    with pytest.raises(click.BadParameter):
        amounts.Seconds(86400).convert(text, None, None)
