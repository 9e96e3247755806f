"""The database is locked for a bounded time and always unlocked, whatever breaks, wherever it does."""

import concurrent.futures
import os
import re
import signal
import subprocess
import threading
import time

import pytest
from mysqllocks import mysqllock, start
from mysqlserver import CONNECT, DATABASE, MARIADB_1011, PING, ScriptedServer
from programs import until

from blockdiff.mysql import readlock

# step -> what it is worth to lose the connection there: the exit code, and whether the
# command may have run. The lock is asked for at "FLUSH", granted after it.
STEPS = {
    CONNECT: 40,
    DATABASE: 40,
    "SELECT @@version": 40,
    "SHOW GLOBAL VARIABLES": 40,
    "SHOW GRANTS": 40,
    "SET SESSION wait_timeout": 40,
    "SHOW PROCESSLIST": 40,
    "SET SESSION lock_wait_timeout": 41,
    "SET SESSION max_statement_time": 41,
    "FLUSH TABLES WITH READ LOCK": 41,
    "BACKUP STAGE START": 41,
    "BACKUP STAGE BLOCK_COMMIT": 41,
    "SHOW MASTER STATUS": 42,
    "SELECT @@GLOBAL.gtid": 42,
    f"{PING} 1": 42,  # before the command
    f"{PING} 2": 42,  # after it
    "UNLOCK TABLES": 0,  # proved by then: closing the connection unlocks as well
    "BACKUP STAGE END": 0,
}
WITHOUT_CONSEQUENCE = {"SHOW MASTER STATUS", "SELECT @@GLOBAL.gtid"}  # when refused
METHODS = {"ftwrl": "BACKUP", "backup-stage": ("FLUSH", "UNLOCK")}
CASES = [
    (method, step, fault)
    for method, foreign in METHODS.items()
    for step in STEPS
    for fault in ("drop", "error", "stall", "stall for ever")
    if not step.startswith(foreign) and (fault != "stall for ever" or STEPS[step] == 41)
]


def fault_verdict(tmp_path, method, step, fault):
    """Run one case; return what is wrong with how it ended, "" if nothing is."""
    ran = tmp_path / re.sub(r"\W+", "-", f"{method}-{step}-{fault}")
    begun = time.monotonic()
    with ScriptedServer(MARIADB_1011, script={step: fault}) as server:
        code, _, err = mysqllock(
            tmp_path, f"--socket={server.path}", f"--method={method}", "--lock-timeout=1", "touch", str(ran)
        )
        took_s = time.monotonic() - begun
        expected = STEPS[step]
        if fault == "error" and step in WITHOUT_CONSEQUENCE:
            expected = 0
        if expected != code:
            return f"exit code {code}, not {expected}: {err}"
        if "Traceback" in err:
            return err
        if not server.at_rest(2):
            return f"locked after the end: held by {server.holder}, waited for by {server.pending}"
        if took_s > 40:  # connecting 10, answering 1 + 2, killing 10 + 2, and a slow machine
            return f"took {took_s} s"
    if (expected == 0 or step == f"{PING} 2") != ran.exists():
        return f"the command {'ran' if ran.exists() else 'did not run'}"
    return ""


def test_wherever_the_server_stalls_drops_or_refuses_the_end_is_known_and_nothing_stays_locked(tmp_path):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        verdicts = dict(
            zip(CASES, pool.map(lambda case: fault_verdict(tmp_path, *case), CASES), strict=True)
        )

    assert {case: verdict for case, verdict in verdicts.items() if verdict} == {}


def test_a_session_number_means_nothing_to_a_server_that_has_started_anew(tmp_path):
    with ScriptedServer(script={"FLUSH": "stall"}) as server:
        server.uptime_s = 0
        code, _, err = mysqllock(tmp_path, f"--socket={server.path}", "--lock-timeout=0.5", "true")
        assert server.at_rest(5)
    assert (code, server.issued("KILL")) == (41, []), err


def test_a_server_that_does_not_keep_its_own_limit_has_the_waiting_statement_killed(tmp_path):
    with ScriptedServer(script={"FLUSH": "stall for ever"}) as server:
        code, _, err = mysqllock(tmp_path, f"--socket={server.path}", "--lock-timeout=0.5", "true")
        assert server.at_rest(2)
    assert (code, len(server.issued("KILL"))) == (41, 1), err


def signal_verdict(tmp_path, step, number):
    """Signal mysqllock at a step; return what is wrong with how it ended."""
    process = None
    ready = threading.Event()

    def hit():
        ready.wait()
        process.send_signal(number)
        time.sleep(0.3)  # it is at work on this very answer when the signal arrives

    with ScriptedServer(script={step: hit}) as server:
        with start(tmp_path, f"--socket={server.path}", "--lock-timeout=1", "true") as process:
            ready.set()
            _, err = process.communicate(timeout=30)
        expected = -number if number == signal.SIGKILL else 128 + number
        if process.returncode not in (expected, 128 + number):
            return f"{process.returncode}: {err}"
        if "Traceback" in err:
            return err
        return "" if server.at_rest(2) else f"locked: {server.holder}, {server.pending}"


def test_wherever_it_is_killed_or_told_to_stop_nothing_stays_locked(tmp_path):
    steps = [step for step in STEPS if not step.startswith(("BACKUP", "SET SESSION max", "UNLOCK", PING))]
    cases = [(step, number) for step in steps for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda case: signal_verdict(tmp_path, *case), cases)
        verdicts = dict(zip(cases, found, strict=True))

    assert {case: verdict for case, verdict in verdicts.items() if verdict} == {}


def test_a_signal_while_the_lock_is_waited_for_takes_the_waiting_statement_away(tmp_path):
    with ScriptedServer(script={"FLUSH": "stall for ever"}) as server:
        with start(tmp_path, f"--socket={server.path}", "--lock-timeout=600", "true") as process:
            until(lambda: server.pending is not None)
            process.terminate()
            process.communicate(timeout=30)
            assert server.at_rest(2)
        assert process.returncode == 143


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_is_passed_on_to_the_command_and_the_lock_lasts_until_it_has_ended(tmp_path, number):
    script = f"trap 'sleep 0.3; echo told; exit 9' {number:d}; echo ready; while :; do sleep 0.05; done"
    with ScriptedServer() as server:
        with start(tmp_path, f"--socket={server.path}", "sh", "-c", script) as process:
            assert process.stdout.readline() == "ready\n"
            process.send_signal(number)
            assert process.stdout.readline() == "told\n"
            assert server.holder is not None
            process.communicate(timeout=30)
        assert (process.returncode, server.holder) == (9, None)


def test_killed_while_the_command_runs_it_leaves_nothing_locked(tmp_path):
    script = "echo $$; exec sleep 30"
    with (
        ScriptedServer() as server,
        start(tmp_path, f"--socket={server.path}", "sh", "-c", script) as process,
    ):
        child = int(process.stdout.readline())
        assert server.holder is not None
        process.kill()
        process.wait()
        try:
            assert server.at_rest(2)
        finally:
            os.kill(child, signal.SIGKILL)


def test_the_server_gives_the_lock_up_when_it_hears_nothing(tmp_path):
    # stopped: neither alive nor closed, as after a cut network or a power failure
    with ScriptedServer(hurry=10) as server:
        with start(tmp_path, f"--socket={server.path}", "sh", "-c", "echo ready; sleep 0.5") as process:
            process.stdout.readline()
            process.send_signal(signal.SIGSTOP)
            try:
                assert [f"SET SESSION wait_timeout = {readlock.IDLE_S}"] == server.issued("SET SESSION wait")
                assert server.at_rest(readlock.IDLE_S / server.hurry + 5)
            finally:
                process.send_signal(signal.SIGCONT)
            _, err = process.communicate(timeout=30)
        assert process.returncode == 42, err


def test_a_lock_that_is_lost_while_the_command_runs_is_noticed_and_voids_it(tmp_path):
    with ScriptedServer() as server:
        with start(tmp_path, f"--socket={server.path}", "sh", "-c", "echo ready; sleep 1") as process:
            process.stdout.readline()
            server.kill(server.holder)
            _, err = process.communicate(timeout=30)
        assert process.returncode == 42
        assert "the lock was lost" in err


def test_held_for_too_long_it_is_released_whatever_the_command_does(tmp_path):
    script = "trap '' TERM; echo ready; read go; echo late; exit 0"
    with ScriptedServer() as server:
        arguments = (f"--socket={server.path}", "--max-hold=0.5", "sh", "-c", script)
        with start(tmp_path, *arguments, stdin=subprocess.PIPE) as process:
            process.stdout.readline()
            assert server.holder is not None
            assert server.at_rest(10)
            assert process.poll() is None  # the command was not touched
            out, err = process.communicate("go\n", timeout=30)
        assert (process.returncode, out) == (42, "late\n")
        assert "--max-hold" in err
