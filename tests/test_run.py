"""Commands side by side: at most one for a host, at most so many in all, no text mixed with another's.

Each is a real process, and writes when it starts and ends into one file: what overlaps is seen there.
"""

import itertools
import os
import signal
import subprocess
import sys
import time

import pytest
from programs import Program, until

from blockdiff import run

HOST = os.uname().nodename


@pytest.fixture
def events(tmp_path):
    path = tmp_path / "events"
    path.touch()
    return path


@pytest.fixture
def task(events):
    """Return a function that makes a task: it writes that it starts, runs a line of shell, and writes that it ends."""

    def task(name, hosts, script="sleep 0.1", code=0, result=False):
        words = ["sh", "-c", f"echo + {name} >> {events}; {script}; echo - {name} >> {events}; exit {code}"]
        return run.Task(words, name, frozenset(hosts.split()), result)

    return task


def played(events):
    """Return each moment's running commands, in the order of the events."""
    moments, now = [], set()
    for line in events.read_text().splitlines():
        sign, name = line.split()
        now = now | {name} if sign == "+" else now - {name}
        moments.append(frozenset(now))
    return moments


def go(tasks, most=4, **options):
    """Run them; return the result, and the places in the order of their ends."""
    order = []
    done = run.run(tasks, most=most, ended=lambda number, ended: order.append((number, ended.exit_code)), **options)
    return done, order


@pytest.mark.parametrize("most", [1, 2, 3, 9])
def test_never_two_of_one_host_and_never_more_than_told(task, events, most):
    hosts = {"a": "x", "b": "x", "c": "y", "d": "y z", "e": "z", "f": "w", "g": "v", "h": "x"}
    done, order = go([task(name, on) for name, on in hosts.items()], most)
    assert [ended.exit_code for ended in done.ended] == [0] * 8 and done.signal is None
    moments = played(events)
    assert max(map(len, moments)) == min(most, 5)  # x, y, z, w and v have at most one each
    for moment in moments:
        for one, other in itertools.combinations(moment, 2):
            assert not set(hosts[one].split()) & set(hosts[other].split())
    assert sorted(number for number, _ in order) == list(range(8))


def test_the_order_of_the_list_is_kept_for_a_host(task, events):
    go([task(name, "x") for name in "abcd"])
    assert [line for line in events.read_text().splitlines() if line[0] == "+"] == ["+ a", "+ b", "+ c", "+ d"]


def test_one_that_hangs_blocks_its_own_host_only(task, events, tmp_path):
    go_on = tmp_path / "go on"
    os.mkfifo(go_on)
    tasks = [task("hangs", "x", f"cat '{go_on}'"), task("waits", "x"), *(task(f"{n}", f"{n}") for n in range(5))]
    ended = []

    def end(number, how):
        ended.append(number)
        if len(ended) == 5:
            assert played(events)[-1] == {"hangs"}
            os.close(os.open(go_on, os.O_WRONLY))

    run.run(tasks, most=2, ended=end)
    assert sorted(ended[:5]) == [2, 3, 4, 5, 6] and ended[5:] == [0, 1]


def test_one_that_fails_does_not_stop_the_others(task):
    tasks = [task("a", "x", code=7), task("b", "x", "kill -9 $$"), run.Task(["/nowhere/prog"], "c", frozenset("x"))]
    done, _ = go([*tasks, task("d", "x")])
    assert [(ended.exit_code, ended.signal) for ended in done.ended] == [(7, None), (137, 9), (127, None), (0, None)]
    texts = [ended.text.decode() for ended in done.ended]
    assert texts[0] == f"{HOST} starting: a\ncommand exited with code:7\n"
    assert texts[1] == f"{HOST} starting: b\ncommand died with signal:9\n"
    assert texts[2].splitlines()[1:] == ["failed to execute command: No such file or directory",
                                         "command exited with code:127"]  # fmt: skip


def test_texts_are_whole_and_not_mixed(task):
    lines = "for i in $(seq 300); do echo {0} $i; echo {0} $i >&2; done"
    done, _ = go([task(name, name, lines.format(name)) for name in "abcd"])
    for name, ended in zip("abcd", done.ended, strict=True):
        wanted = [f"{name} {number}" for number in range(1, 301) for _ in "12"]
        assert ended.text.decode().splitlines() == [f"{HOST} starting: {name}", *wanted, "command exited with code:0"]


def test_a_result_is_no_text_and_more_than_a_pipe_holds(task):
    script = "head -c 1000000 /dev/zero; echo why >&2"
    done, _ = go([task("a", "x", script, result=True)], stamp=lambda: "TIME")
    (ended,) = done.ended
    assert ended.result == bytes(1_000_000)
    assert ended.text.decode() == f"[TIME] {HOST} starting: a\n[TIME] why\n[TIME] command exited with code:0\n"


def test_a_process_that_keeps_the_output_open_is_not_waited_for(task):
    done, _ = go([task("a", "x", "echo one; sleep 60 & echo $!"), task("b", "x")])
    lines = done.ended[0].text.decode().splitlines()
    os.kill(int(lines[2]), signal.SIGKILL)
    assert (lines[1], done.ended[1].exit_code) == ("one", 0)


def test_a_command_has_no_input_and_a_session_of_its_own(task):
    done, _ = go([task("a", "x", "cat; ps -o sid= -p $$; echo $$")])
    session, own = done.ended[0].text.decode().split("\n")[1:3]
    assert int(session) == int(own) != os.getsid(0)


SIGNALLED = """
import sys
from blockdiff import run
script = "trap 'echo cleaned; exit 9' HUP INT TERM; echo $$ > %s; sleep 60 & wait"
tasks = [run.Task(["sh", "-c", script % path], path, frozenset([path])) for path in sys.argv[1:]]
done = run.run(tasks, most=2, ended=lambda number, ended: None)
print(done.signal, [ended and (ended.exit_code, ended.text.decode().splitlines()[1]) for ended in done.ended])
"""


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_a_signal_goes_to_all_and_starts_no_more(tmp_path, number):
    paths = [tmp_path / name for name in "abc"]
    words = [sys.executable, "-c", SIGNALLED, *map(str, paths)]
    with Program(words, stdout=subprocess.PIPE, text=True) as process:
        until(lambda: all(path.exists() and path.read_text() for path in paths[:2]))
        time.sleep(0.05)
        process.send_signal(number)
        out, _ = process.communicate(timeout=30)
    assert out == f"{int(number)} [(9, 'cleaned'), (9, 'cleaned'), None]\n"
    assert not paths[2].exists()
