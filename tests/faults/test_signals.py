"""Whoever is killed, asked to end or struck dumb, at whatever moment: the old state or the new one.

Moments are made, not guessed: the server's are system calls that strace finds (its own ones on
the set's files), the agent's are told by what it has done. Random moments come on top of that.
"""

import os
import random
import signal
import time

import pytest
from engine import back_up
from launched import Launched, Set, needs
from programs import until

from blockdiff.sets import recover
from blockdiff.sets.backupset import BackupSet

BLOCK = 64 * 1024
SLOW = ["--bwlimit", "1M", "--jobs", "1"]
ASKED = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
CODES = {signal.SIGKILL: -signal.SIGKILL, **ASKED}
AGENT_DIED, SILENT = 23, 25


def named(number):
    return signal.Signals(number).name


@pytest.fixture
def begun(tmp_path):
    """A set with one version, and its source, changed since then."""
    found = Set(tmp_path / "backups")
    found.source = tmp_path / "volume"
    found.versions[1] = os.urandom(8 * BLOCK)
    found.whole = None  # what the version restores to that is whole, but not published
    found.source.write_bytes(found.versions[1])
    back_up(found.name, found.source)
    found.source.write_bytes(os.urandom(20 * BLOCK))
    return found


@pytest.fixture(autouse=True)
def unprotected():
    """Whoever started the tests with nohup or in the background has them, and what they start, ignore some."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in ASKED if number != signal.SIGINT}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def settle(begun, run, kept=False):
    """Nothing of the run lives on; the state is the old or the new one; the next run succeeds."""
    assert run.gone()
    count(begun)
    if kept:
        return
    back_up(begun.name, begun.source)
    count(begun)
    begun.check()


def count(begun):
    """Record what the versions are that the last run published, at most one, after at most one that it adopted."""
    newest, backup_set = begun.newest(), BackupSet(begun.name)
    if begun.whole is not None and newest > max(begun.versions):  # an earlier run had written it, but for NAME.ver
        begun.versions[max(begun.versions) + 1], begun.whole = begun.whole, None
    assert newest in (max(begun.versions), max(begun.versions) + 1)
    begun.versions.setdefault(newest, begun.source.read_bytes())
    if begun.whole is None and recover.is_whole(backup_set, newest + 1, backup_set.listing()):
        begun.whole = begun.source.read_bytes()


def told(code, err):
    """What stands on stderr is whole lines of ours, and the last one tells why."""
    if code in ASKED.values():
        assert err[-1] == f"blockdiff: interrupted by {named(next(n for n, c in ASKED.items() if c == code))}"
    assert not [line for line in err if "Traceback" in line]


# before the agent has said hello


@pytest.fixture
def mute(tmp_path):
    """Environment in which the agent never becomes one."""
    program = tmp_path / "mute"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    return {"SSH_BLOCKDIFF_PREFIX": str(program)}


@pytest.mark.parametrize("number", CODES, ids=named)
def test_the_server_before_the_hello(begun, mute, number):
    old = begun.files()
    with Launched("blockdiff-backup", begun.name, begun.source, env=mute) as run:
        until(lambda: run.has("sleep"))
        time.sleep(0.1)
        os.kill(run.pid, number)
        code, _, err = run.finish(30)
        if number == signal.SIGKILL:
            # what never became an agent reads nothing, and so does not learn it
            for pid in run.processes():
                os.kill(pid, signal.SIGKILL)
        assert code == CODES[number]
        told(code, err)
        assert begun.files() == old
        settle(begun, run)


def test_silence_before_the_hello(begun, mute):
    old = begun.files()
    with Launched("blockdiff-backup", "--timeout", "2", begun.name, begun.source, env=mute) as run:
        code, _, err = run.finish(30)
        assert code == SILENT
        assert "no data from localhost for 2 seconds" in err[-1]
        assert begun.files() == old
        settle(begun, run)


# while the volume is read


def reading(begun):
    """Wait until the agent reads, and the files for what it sends are open."""
    until(lambda: list(begun.folder.glob("*.idx.*.part")))
    time.sleep(0.05)


@pytest.mark.parametrize("number", CODES, ids=named)
def test_the_server_while_the_agent_reads(begun, number):
    old = begun.files()
    begun.source.write_bytes(os.urandom(40 * BLOCK))
    words = ["--new-source", "--block-size", "64K", *SLOW, begun.name, begun.source]
    with Launched("blockdiff-backup", *words) as run:
        reading(begun)
        agent = run.agent()
        os.kill(run.pid, number)
        code, out, err = run.finish(30)
        assert (code, out) == (CODES[number], "")
        told(code, err)
        # the agent ends by itself: nobody is left to end it after SIGKILL
        until(lambda: agent not in run.processes(), within_s=10)
        now = {name: data for name, data in begun.files().items() if not name.endswith(".part")}
        assert now == old
        if number != signal.SIGKILL:
            assert begun.files() == old
        settle(begun, run)


@pytest.mark.parametrize("number", CODES, ids=named)
def test_the_agent_while_it_reads(begun, number):
    old = begun.files()
    with Launched("blockdiff-backup", *SLOW, begun.name, begun.source) as run:
        reading(begun)
        os.kill(run.agent(), number)
        code, out, err = run.finish(30)
        assert (code, out) == (AGENT_DIED, "")
        assert err[-1].startswith("blockdiff: the agent on localhost died: ")
        told(code, err)
        assert begun.files() == old
        settle(begun, run)


def test_silence_while_the_agent_reads(begun):
    """A stopped agent is a host that hangs."""
    old = begun.files()
    with Launched("blockdiff-backup", "--timeout", "2", *SLOW, begun.name, begun.source) as run:
        reading(begun)
        os.kill(run.agent(), signal.SIGSTOP)
        code, out, err = run.finish(30)
        assert (code, out) == (SILENT, "")
        assert "no data from localhost for 2 seconds" in err[-1]
        assert begun.files() == old
        settle(begun, run)


def test_a_server_that_is_stopped_for_longer_than_the_timeout(begun):
    """The agent gives up on it; when it goes on, it finds that out."""
    old = begun.files()
    with Launched("blockdiff-backup", "--timeout", "2", *SLOW, begun.name, begun.source) as run:
        reading(begun)
        agent = run.agent()
        os.kill(run.pid, signal.SIGSTOP)
        # a zombie until the server looks after it
        until(lambda: agent not in run.processes(), within_s=25)
        os.kill(run.pid, signal.SIGCONT)
        code, _, err = run.finish(30)
        assert code in (AGENT_DIED, SILENT), err
        told(code, err)
        assert begun.files() == old
        settle(begun, run)


# while the version is published

POINTS = [
    ("fsync", 1),  # of the diff file
    ("fsync", 5),  # of the manifest: all is on the disk under temporary names
    ("link", 1),  # nothing has its final name
    ("link", 3),  # some have
    ("unlink", 3),  # one has both
    ("link", 5),  # the manifest
    ("fsync", 6),  # of the folder: the version is whole and not published
    ("rename", 1),  # NAME.ver
    ("fsync", 8),  # of the folder: it is published
]


@pytest.mark.parametrize(
    "call, count, number",
    [
        pytest.param(call, count, number, id=f"{call}-{count}-{named(number)}")
        for call, count in POINTS
        for number in CODES
        if number in (signal.SIGKILL, signal.SIGTERM) or (call, count) == ("link", 3)
    ],
)
def test_the_server_while_it_publishes(begun, tmp_path, call, count, number):
    needs("strace")
    trace = tmp_path / "trace"
    strace = ["strace", "-qq", "-o", trace, "-e", f"trace={call}"]
    old = begun.files()
    before = [*strace, "-e", f"inject={call}:signal={named(number)}:when={count}"]
    with Launched("blockdiff-backup", begun.name, begun.source, before=before) as run:
        code, out, err = run.finish(30)
    assert named(number) in trace.read_text()
    told(code, err)
    assert code in (CODES[number], 0), err
    assert out == ""
    published = (call, count) == ("fsync", 8)
    if number != signal.SIGKILL or count == 1:
        # an orderly end leaves the old state, or the new one if it was all but there
        assert begun.newest() == (2 if published or code == 0 else 1) or call == "rename"
    for name, data in old.items():
        assert name == "db.ver" or begun.files()[name] == data
    settle(begun, run)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=named)
def test_the_agent_when_all_is_said(begun, tmp_path, number):
    """It has sent its END: the version is good, whatever becomes of the agent."""
    needs("strace")
    # the server waits a second before it looks at the agent's end
    strace = ["strace", "-qq", "-o", "/dev/null", "-e", "trace=link"]
    before = [*strace, "-e", "inject=link:delay_enter=300000:when=1"]
    with Launched("blockdiff-backup", begun.name, begun.source, before=before) as run:
        until(lambda: list(begun.folder.glob("*.json.*.part")))
        agent = run.agent()
        if agent is not None:
            os.kill(agent, number)
        code, _, _err = run.finish(30)
        assert code in (0, 3)
        settle(begun, run)


# at any moment


def test_a_version_at_once_after_every_kind_of_death(begun):
    """Thirty runs, each hit at a random moment; whatever was published is right, and stays so."""
    rng = random.Random()
    seed = rng.randrange(1 << 32)
    print("seed", seed)
    rng.seed(seed)
    for _ in range(30):
        begun.source.write_bytes(os.urandom(6 * BLOCK))
        number = rng.choice([*CODES, signal.SIGKILL])
        with Launched("blockdiff-backup", "--bwlimit", "4M", begun.name, begun.source) as run:
            time.sleep(rng.uniform(0, 0.45))
            victim = run.agent() if rng.random() < 0.4 else run.pid
            if victim is not None and run.poll() is None:
                os.kill(victim, number)
            code, _, err = run.finish(30)
            if not any(line.startswith("running: ") for line in err):
                assert code  # it was still python's start, whose words these are
                continue
            assert code in (0, 3, AGENT_DIED, CODES[number]), (number, err)
            if code != AGENT_DIED:  # else its last words are there, perhaps those of python's start
                told(code, err)
            if code in (0, 3):
                assert begun.newest() not in begun.versions
            settle(begun, run, kept=True)
    settle(begun, run)


def test_a_version_that_a_later_run_adopts_is_of_the_source_as_it_was(begun, tmp_path):
    needs("strace")
    strace = ["strace", "-qq", "-o", "/dev/null", "-e", "trace=rename", "-e", "inject=rename:signal=KILL:when=1"]
    with Launched("blockdiff-backup", begun.name, begun.source, before=strace) as run:
        run.finish(30)
        settle(begun, run, kept=True)
    assert begun.newest() == 1
    begun.source.write_bytes(os.urandom(21 * BLOCK))
    with Launched("blockdiff-backup", begun.name, begun.source) as run:
        assert run.finish(30)[0] == 0
        settle(begun, run, kept=True)
    assert begun.newest() == 3
    settle(begun, run)


def test_a_second_signal_does_not_cut_the_cleaning_up_short(begun):
    old = begun.files()
    with Launched("blockdiff-backup", *SLOW, begun.name, begun.source) as run:
        reading(begun)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGINT):
            if run.poll() is None:
                os.kill(run.pid, number)
        code, _, err = run.finish(30)
        assert code in ASKED.values()
        told(code, err)
        assert begun.files() == old
        settle(begun, run)


def test_a_hangup_that_nohup_keeps_away(begun):
    needs("nohup")
    with Launched("blockdiff-backup", *SLOW, begun.name, begun.source, before=["nohup"]) as run:
        reading(begun)
        os.kill(run.pid, signal.SIGHUP)
        assert run.finish(30)[0] == 0
        settle(begun, run)


READERS = {  # program -> its words behind the set's name
    "blockdiff-verify": [], "blockdiff-list": [], "blockdiff-merge": ["target"], "blockdiff-backup": ["volume"],
}  # fmt: skip


@pytest.mark.parametrize("file", ["db.1.md5", "db.1.json", "db.1.gz", "db.1.idx"])
@pytest.mark.parametrize("program", READERS)
def test_a_signal_while_a_file_is_looked_at_is_no_damage_to_it(begun, tmp_path, program, file):
    """It ends the program, at whatever file of whatever version it is, and nothing is said of the file."""
    needs("strace")
    words = [begun.name, *[tmp_path / word for word in READERS[program]]]
    strace = ["strace", "-qq", "-o", tmp_path / "trace", "-P", begun.folder / file, "-e", "trace=openat"]
    with Launched(program, *words, before=[*strace, "-e", "inject=openat:signal=SIGTERM:when=1"]) as run:
        code, _, err = run.finish(30)
    if "SIGTERM" not in (tmp_path / "trace").read_text():
        assert code == 0  # it does not look at this one, or not in its main thread
        return
    assert code == 143, err
    told(code, err)
    assert "damaged" not in "".join(err)
    assert begun.newest() == 1


@pytest.mark.parametrize("number", CODES, ids=named)
def test_a_dump_that_is_ended(tmp_path, number):
    """Files that were asked for by name are there only when they are whole."""
    source = tmp_path / "volume"
    source.write_bytes(os.urandom(20 * BLOCK))
    outputs = ["--output", tmp_path / "out", "--digests-out", tmp_path / "digests"]
    with Launched("blockdiff-dump", *SLOW, *outputs, source) as run:
        until(lambda: run.agent() is not None and (tmp_path / "out.part").exists())
        time.sleep(0.2)
        os.kill(run.pid, number)
        code, _, err = run.finish(30)
        assert code == CODES[number]
        told(code, err)
        assert run.gone()
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "digests").exists()
    if number != signal.SIGKILL:
        assert sorted(path.name for path in tmp_path.iterdir()) == ["volume"]
