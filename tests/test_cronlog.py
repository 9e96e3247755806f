"""cronlog: silent while all is well, everything to hand when it is not."""

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from cronlogs import HOST, run, start
from programs import until

from blockdiff import cronlog
from blockdiff.errors import StoreFailed


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log"


def test_a_command_that_succeeds_is_logged_and_not_printed(log):
    assert run("-l", str(log), "--", "sh", "-c", "echo one; echo two >&2") == (0, "", "")
    assert log.read_text() == (
        "-" * 78 + f"\n{HOST} starting: sh -c echo one; echo two >&2\none\ntwo\ncommand exited with code:0\n"
    )


def test_a_command_that_fails_is_logged_and_printed(log):
    log.write_text("older\n")

    code, out, err = run("--logfile", str(log), "sh", "-c", "echo one; exit 7")

    assert (code, err) == (7, "")
    assert out == f"{HOST} starting: sh -c echo one; exit 7\none\ncommand exited with code:7\n"
    assert log.read_text() == "older\n" + "-" * 78 + "\n" + out


def test_without_a_log_it_only_prints_and_only_on_failure():
    assert run("true") == (0, "", "")
    assert run("--", "sh", "-c", "echo one; exit 1")[:2] == (
        1,
        f"{HOST} starting: sh -c echo one; exit 1\none\ncommand exited with code:1\n",
    )


def test_print_always_prints_success_too():
    assert run("--print-always", "echo", "one")[:2] == (
        0,
        f"{HOST} starting: echo one\none\ncommand exited with code:0\n",
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_command_that_a_signal_ended_has_failed(number):
    code, out, _ = run("sh", "-c", f"kill -{number:d} $$")

    assert code == 128 + number
    assert out.endswith(f"\ncommand died with signal:{number:d}\n")


@pytest.mark.parametrize("name, mode, code", [("absent", None, 127), ("not-executable", 0o644, 126)])
def test_a_command_that_cannot_be_started_has_failed(tmp_path, name, mode, code):
    path = tmp_path / name
    if mode is not None:
        path.touch()
        path.chmod(mode)

    found, out, _ = run(str(path))

    assert found == code
    assert re.search(f"failed to execute command: .*\ncommand exited with code:{code}\n$", out)


def test_every_line_gets_the_time_it_came(log):
    run("-t", "-l", str(log), "sh", "-c", "echo one; printf two; echo three; echo; printf four")

    rule, *lines = log.read_text().splitlines()
    assert rule == "-" * 78
    stamp = r"\[(Mon|Tue|Wed|Thu|Fri|Sat|Sun) (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) "
    stamp += r"[ 123]\d \d\d:\d\d:\d\d \d{4}\] "
    assert [re.sub(f"^{stamp}", "", line) for line in lines] == [
        f"{HOST} starting: sh -c echo one; printf two; echo three; echo; printf four",
        "one",
        "twothree",
        "",
        "four",
        "command exited with code:0",
    ]
    assert all(re.match(stamp, line) for line in lines)


def test_the_time_is_the_local_one_in_the_old_form(log):
    stamp = time.asctime((2010, 1, 9, 3, 5, 2, 5, 9, 0))

    cronlog.run(["true"], logfile=str(log), timestamp=True, host="db00", now=lambda: stamp).text.close()

    assert log.read_text().splitlines()[1] == "[Sat Jan  9 03:05:02 2010] db00 starting: true"


def test_output_is_in_the_log_as_it_comes(log):
    script = "printf part; read go; echo done"
    with start("-l", str(log), "sh", "-c", script, stdin=subprocess.PIPE) as process:
        until(lambda: log.exists() and log.read_text().endswith("\npart"))
        process.communicate(b"go\n", timeout=20)
    assert log.read_text().endswith("\npartdone\ncommand exited with code:0\n")


def test_bytes_pass_unchanged(log):
    data = bytes(range(256)) * 2000
    source = log.parent / "data"
    source.write_bytes(data)

    with start("-l", str(log), "--print-always", "cat", str(source)) as process:
        out, _ = process.communicate(timeout=30)

    assert data in out
    assert data in log.read_bytes()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_is_passed_on_and_the_commands_own_ending_is_reported(log, number):
    script = f"trap 'echo told; exit 9' {number:d}; echo ready; while :; do sleep 0.05; done"
    with start("-l", str(log), "sh", "-c", script) as process:
        until(lambda: log.exists() and "\nready" in log.read_text())
        process.send_signal(number)
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 9
    assert out.endswith(b"told\ncommand exited with code:9\n")


def test_what_a_stopped_command_left_behind_is_not_waited_for(log):
    with start("-l", str(log), "sh", "-c", "sleep 60 & echo $!; wait") as process:
        until(lambda: log.exists() and re.search(r"\n\d+\n", log.read_text()))
        left = int(re.search(r"\n(\d+)\n", log.read_text()).group(1))
        try:
            process.terminate()
            process.communicate(timeout=30)
        finally:
            os.kill(left, signal.SIGKILL)
    assert process.returncode == 143


def test_what_comes_after_the_command_ended_is_still_logged(log):
    run("-l", str(log), "sh", "-c", "(sleep 0.5; echo late) & exit 0")

    assert log.read_text().endswith("late\ncommand exited with code:0\n")


def test_two_jobs_in_one_log_print_only_their_own(log):
    with start("-l", str(log), "sh", "-c", "echo first; read go; exit 1", stdin=subprocess.PIPE) as process:
        until(lambda: log.exists() and "\nfirst" in log.read_text())
        assert run("-l", str(log), "sh", "-c", "echo second")[0] == 0
        out, _ = process.communicate(b"go\n", timeout=20)
    assert b"second" not in out
    assert "second" in log.read_text()


def test_a_log_that_cannot_be_opened_stops_the_job_before_it_begins(tmp_path):
    ran = tmp_path / "ran"

    code, out, err = run("-l", str(tmp_path / "no" / "such" / "log"), "touch", str(ran))

    assert (code, out) == (StoreFailed.exit_code, "")
    assert "cannot write" in err and not ran.exists()


def test_a_log_that_is_full_is_told_and_does_not_stop_the_job(tmp_path):
    ran = tmp_path / "ran"

    code, out, err = run("-l", "/dev/full", "--", "touch", str(ran))

    assert code == 3
    assert ran.exists()
    assert out == f"{HOST} starting: touch {ran}\ncommand exited with code:0\n"
    assert err == "cronlog: cannot write /dev/full: No space left on device\n"
    assert run("-l", "/dev/full", "--", "sh", "-c", "exit 5")[0] == 5


perl = pytest.mark.skipif(shutil.which("perl") is None, reason="perl is not installed")


def executed(words):
    """Return the exit code and the output of a command under cronlog."""
    outcome = cronlog.run(words, host="host")
    with outcome.text as text:
        lines = text.read().decode().removeprefix(f"host starting: {' '.join(words)}\n").splitlines()
    return outcome.exit_code, lines[:-1]


@perl
@pytest.mark.parametrize(
    "words",
    [
        ["echo a && echo b"], ["echo a; exit 5"], ["A=1 env | grep ^A="], ["  A=1 true"], ["echo   many  blanks "],
        ["echo $((1 + 1))"], ["echo 'a b'"], ["exit 3"], ["no-such-program-here --at all"], ["echo\ttab"],
        ["exec echo one"], [". ./sourced"], ["echo one\necho two"], ["echo a#b %d ^ !"], ["./no-interpreter x y"],
        ["./no-interpreter", "x  y"], ["no-interpreter", "z"], ["echo", "a && b"], ["echo", "*"], ["./not-executable"],
    ],
)  # fmt: skip
def test_a_command_is_executed_as_by_perl(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", os.environ["PATH"] + os.pathsep + str(tmp_path))
    Path("sourced").write_text("echo sourced\n")
    Path("no-interpreter").write_text('echo script "$@"\n')
    Path("no-interpreter").chmod(0o755)
    Path("not-executable").touch()
    script = "no warnings; exec @ARGV; print 'not started'; exit 127"
    done = subprocess.run(
        ["perl", "-e", script, "--", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    code, lines = executed(words)
    if done.stdout == "not started":
        assert code in (126, 127)
        assert lines[0].startswith("failed to execute command: ")
    else:
        assert (code, lines) == (done.returncode, done.stdout.splitlines())
