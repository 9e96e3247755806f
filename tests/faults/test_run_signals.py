"""blockdiff-run is asked to end, or killed, while its backups run: nothing of them is left, the old state stays.

The hosts are this machine under other names, by a program in ssh's place.
"""

import os
import pathlib
import signal

import pytest
from launched import Launched, Set
from programs import until

BLOCK = 64 * 1024
ASKED = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
SLOW = ["--bwlimit", "1M", "--jobs", "1"]
# ssh's place: any host is this machine, but one hangs before an agent is there
RSH = """#!/bin/sh
while :; do case $1 in -o|-p|-l|-F|-i) shift 2 ;; -*) shift ;; *) break ;; esac; done
[ "$1" = hangs ] && exec sleep 600
shift
exec sh -c "$*"
"""


@pytest.fixture
def sets(tmp_path):
    """Four sets of one source, the first two on one host."""
    source = tmp_path / "volume"
    source.write_bytes(os.urandom(60 * BLOCK))
    rsh = tmp_path / "rsh"
    rsh.write_text(RSH)
    rsh.chmod(0o755)
    found = []
    for name, host in (("a", "one"), ("b", "one"), ("c", "two"), ("d", "three")):
        each = Set(tmp_path / name)
        each.line = f"{each.name} {host}:{source} --rsh {rsh}"
        found.append(each)
    return found


@pytest.fixture
def start(tmp_path, sets):
    def start(*options, lines=None, words=()):
        jobs = tmp_path / "jobs"
        jobs.write_text("".join(f"{line}\n" for line in lines or [each.line for each in sets]))
        return Launched("blockdiff-run", *options, jobs, "--", *words)

    return start


def reads(each):
    return bool(list(each.folder.glob("*.part")))


def command_line(pid):
    """Return the words of a process, none if it has ended."""
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def backups(run):
    """Return its processes that are backups."""
    found = []
    for pid in run.processes():
        if b"blockdiff-backup" in command_line(pid):
            found.append(pid)
    return found


def nothing_left(each):
    assert not [path for path in each.folder.iterdir() if path.suffix == ".part" or path.name.endswith(".ver")]


@pytest.mark.parametrize("number", ASKED, ids=lambda number: signal.Signals(number).name)
def test_asked_to_end_all_end_and_nothing_is_left(sets, start, number):
    first, same, second, third = sets
    with start("-P", "2", words=SLOW) as run:
        until(lambda: reads(first) and reads(second))
        os.kill(run.pid, number)
        code, out, err = run.finish(60)
        assert run.gone()
    name = signal.Signals(number).name
    assert (code, err) == (ASKED[number], [f"blockdiff: interrupted by {name}"])
    assert out.count(f"blockdiff: interrupted by {name}\ncommand exited with code:{ASKED[number]}\n") == 2
    rows = out.splitlines()[-4:]
    assert [row.split()[0] for row in rows] == [each.name for each in sets]
    assert [row.endswith("not started") for row in rows] == [False, True, False, True]
    for each in (first, same, second, third):
        nothing_left(each)


def test_ctrl_c_reaches_each_backup_once(sets, start):
    """A terminal sends INT to the whole group: the backups are in sessions of their own."""
    with start(words=SLOW) as run:
        until(lambda: reads(sets[0]) and reads(sets[2]) and reads(sets[3]))
        assert len({os.getsid(pid) for pid in [run.pid, *backups(run)]}) == 4
        os.killpg(run.pid, signal.SIGINT)
        code, out, _ = run.finish(60)
        assert run.gone()
    assert code == 130 and "Traceback" not in out and out.count("code:130") == 3


def test_killed_the_backups_end_by_themselves(sets, start):
    """The kernel sends them TERM: no version appears behind everybody's back, no set stays locked."""
    first, _, second, third = sets
    with start(words=SLOW) as run:
        until(lambda: reads(first) and reads(second) and reads(third))
        assert len(backups(run)) == 3
        os.kill(run.pid, signal.SIGKILL)
        run.wait(30)
        assert run.gone()
    for each in sets:
        nothing_left(each)
    with start("-q") as run:
        assert run.finish(60) == (0, "", [])
    for each in sets:
        assert each.newest() == 1


def test_one_that_hangs_holds_up_its_own_host_only(sets, start, tmp_path):
    hangs, behind = Set(tmp_path / "hangs"), Set(tmp_path / "behind")
    end = sets[0].line.partition("one:")[2]
    lines = [f"{hangs.name} hangs:{end}", f"{behind.name} hangs:{end}", *(each.line for each in sets)]
    with start("-P", "2", lines=lines) as run:
        until(lambda: all((each.folder / "db.ver").exists() for each in sets))
        until(lambda: len(backups(run)) == 1)  # the last of them has ended, too
        assert not list(behind.folder.iterdir())
        os.kill(run.pid, signal.SIGTERM)
        code, out, _ = run.finish(60)
        assert run.gone()
    assert code == 143
    assert out.count("command exited with code:0\n") == 4
    assert out.splitlines()[-5].endswith("not started")


def test_one_that_is_killed_fails_and_the_others_go_on(sets, start):
    first, _, second, third = sets
    with start("--json", words=SLOW) as run:
        until(lambda: reads(first) and reads(second) and reads(third))
        (victim,) = [pid for pid in backups(run) if first.name.encode() in command_line(pid)]
        os.kill(victim, signal.SIGKILL)
        code, out, _ = run.finish(90)
        assert run.gone()
    assert code == 137 and '"why": "ended by SIGKILL"' in out
    assert [each.newest() for each in (second, third)] == [1, 1]
