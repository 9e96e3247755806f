"""A lock command around a snapshot: the snapshot counts only if the lock was held until it was made."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mysqllocks import MYSQLLOCK, ROOT
from mysqlserver import MARIADB_1011, ScriptedServer
from programs import Program, until

from blockdiff.errors import LockLost, LockNotGranted, LockUnreachable, ProgramMissing
from blockdiff.locking import gate, lockcommand


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Return where sockets are made; the test fails if something stays there."""
    folder = tmp_path / "t"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("HOME", str(tmp_path))
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture
def script(tmp_path):
    """Return a function that makes a lock command of shell lines: "$@" runs what it is given.

    What it writes with `note` is in the file `notes`.
    """
    notes = tmp_path / "notes"
    notes.touch()

    def make(lines):
        path = tmp_path / "helper"
        path.write_text(f"#!/bin/sh\nnote() {{ echo \"$@\" >>{notes}; }}\n{lines}\n")
        path.chmod(0o755)
        return [str(path)]

    make.notes = lambda: notes.read_text().split()
    return make


def locked(command, **options):
    options.setdefault("timeout_s", 20.0)
    return lockcommand.locked(command, log=lambda line: None, **options)


class LockContract:
    """What every lock command must do."""

    def test_it_is_held_in_the_body_and_released_when_it_says_so(self, folders):
        with self.make() as lock:
            self.prove_held()
            lock.release()
            self.prove_free()
            assert lock.facts == lock.facts
        self.prove_free()

    def test_leaving_the_body_releases_it(self, folders):
        with self.make():
            self.prove_held()
        self.prove_free()

    def test_an_exception_in_the_body_flies_on_and_releases_it(self, folders):
        with pytest.raises(ZeroDivisionError), self.make():
            raise ZeroDivisionError
        self.prove_free()

    def test_its_facts_are_ready_for_the_manifest(self, folders):
        with self.make() as lock:
            lock.release()
            assert set(json.loads(json.dumps(lock.facts))) >= self.FACTS


class TestAnybodysHelper(LockContract):
    FACTS = frozenset(("method", "waited_s", "held_s"))

    @pytest.fixture(autouse=True)
    def _lock_file(self, tmp_path):
        self.path = tmp_path / "lock"

    def make(self):
        return locked(["flock", str(self.path)])

    def prove_held(self):
        assert subprocess.run(["flock", "-n", str(self.path), "true"]).returncode == 1

    def prove_free(self):
        assert subprocess.run(["flock", "-n", str(self.path), "true"]).returncode == 0


class TestMysqllock(LockContract):
    FACTS = frozenset(("method", "waited_s", "held_s", "server", "version", "binlog", "gtid", "datadir"))

    @pytest.fixture(autouse=True)
    def _server(self):
        with ScriptedServer(MARIADB_1011) as self.server:
            yield

    def make(self):
        return locked([*MYSQLLOCK, f"--socket={self.server.path}", "--user=root"])

    def prove_held(self):
        assert self.server.holder is not None

    def prove_free(self):
        assert self.server.at_rest(0 if self.server.holder is None else 5)

    def test_the_final_facts_are_the_helpers(self, folders):
        with self.make() as lock:
            assert (
                lock.facts["method"],
                lock.facts["binlog"],
            ) == ("ftwrl", {"file": "bin.000007", "position": 4711})
            assert "held_s" not in lock.facts
            time.sleep(0.5)
            lock.release()
            assert lock.facts["held_s"] >= 0.5

    def test_a_lock_lost_in_the_body_is_known_in_the_end(self, folders):
        with pytest.raises(LockLost, match="42"), self.make():
            self.server.kill(self.server.holder)

    def test_no_server_and_no_lock_are_told_apart(self, folders):
        with pytest.raises(LockUnreachable), locked([*MYSQLLOCK, "--socket=/no/such/socket"]):
            raise AssertionError("not locked")
        self.server.script["FLUSH"] = "error"
        with pytest.raises(LockNotGranted), self.make():
            raise AssertionError("not locked")

    def test_the_limit_of_max_hold_voids_the_snapshot(self, folders):
        command = [*MYSQLLOCK, f"--socket={self.server.path}", "--max-hold=0.3"]
        with pytest.raises(LockLost), locked(command):
            assert self.server.at_rest(10)

    def test_mysqllock_killed_in_the_body_voids_the_snapshot(self, folders, script):
        command = script(f'echo $$ >{folders.parent}/pid; exec "$@"')
        with pytest.raises(LockLost), locked([*command, *MYSQLLOCK, f"--socket={self.server.path}"]):
            os.kill(int((folders.parent / "pid").read_text()), signal.SIGKILL)
            self.prove_free()


def test_the_lock_commands_words_are_run_around_the_gate(folders, script):
    command = script('note before "$1"; shift; "$@"; code=$?; note after; exit $code')

    with locked([*command, "word"]):
        assert script.notes() == ["before", "word"]
    assert script.notes() == ["before", "word", "after"]


def test_the_socket_is_nobody_elses(folders, script):
    with locked(script('"$@"')):
        (folder,) = folders.iterdir()
        assert folder.stat().st_mode & 0o777 == 0o700
        assert (folder / "gate").stat().st_mode & 0o777 == 0o600


def test_facts_may_be_handed_over_by_any_helper(folders, script):
    command = script("""BLOCKDIFF_LOCK='{"method": "mine",\n "held_s": 5}' "$@" """)
    with locked(command) as lock:
        assert lock.facts["method"] == "mine"


@pytest.mark.parametrize("facts", ["no json", "[1]", '{"a": ' + "9" * 100000 + "}"])
def test_facts_that_are_none_do_no_harm(folders, script, facts):
    with locked(script(f"BLOCKDIFF_LOCK='{facts}' \"$@\"")) as lock:
        assert lock.facts["method"] == "helper"
        assert "a" not in lock.facts


@pytest.mark.parametrize("code, error", [(0, LockNotGranted), (1, LockNotGranted), (40, LockUnreachable)])
def test_a_helper_that_ends_without_calling_the_gate_is_refused(folders, script, code, error):
    with pytest.raises(error, match="helper ended with exit code"), locked(script(f"exit {code}")):
        raise AssertionError("not locked")


def test_a_helper_that_never_calls_the_gate_is_stopped(folders, script):
    command = script("trap 'note told; exit 1' TERM; while :; do sleep 0.05; done")
    with pytest.raises(LockNotGranted, match="within"), locked(command, timeout_s=0.5):
        raise AssertionError("not locked")
    assert script.notes() == ["told"]


def test_a_helper_that_does_not_listen_is_killed(folders, script, monkeypatch):
    monkeypatch.setattr(lockcommand, "STOP_S", 0.3)
    command = script("trap '' TERM; echo $$ >>%s; while :; do sleep 0.05; done" % (folders.parent / "notes"))
    with pytest.raises(LockNotGranted), locked(command, timeout_s=0.5):
        raise AssertionError("not locked")
    assert not os.path.exists(f"/proc/{script.notes()[0]}")


@pytest.mark.parametrize("code", [1, 42, 143])
def test_a_helper_that_ends_badly_after_the_gate_voids_the_snapshot(folders, script, code):
    with pytest.raises(LockLost, match=f"exit code {code}"), locked(script(f'"$@"; exit {code}')):
        pass


@pytest.mark.parametrize("lines, at_once", [('"$@"; "$@"; exit 0', 1), ('"$@" & "$@"; exit 0', 2)])
def test_a_helper_that_calls_the_gate_twice_voids_the_snapshot(folders, script, lines, at_once):
    with pytest.raises(LockLost, match="2 times"), locked(script(lines)):
        until(lambda: Path("/proc/net/unix").read_text().count(str(folders)) == 1 + at_once)  # it listens


def test_a_helper_that_does_not_wait_for_the_gate_voids_the_snapshot(folders, script):
    # whether the gate or the helper's end is seen first is the machine's choice; either voids it
    with pytest.raises((LockLost, LockNotGranted), match=r"too early|without running"), locked(script('"$@" &')):
        time.sleep(0.5)


def test_a_helper_that_ends_the_gate_and_hides_it_voids_the_snapshot(folders, script):
    called = folders.parent / "called"
    command = script(f'"$@" & until [ -e {called} ]; do sleep 0.05; done; kill $!; wait; note killed; sleep 1; exit 0')
    with pytest.raises(LockLost, match="too early"), locked(command):
        called.touch()
        until(lambda: script.notes() == ["killed"])


def test_a_helper_that_hangs_after_the_gate_is_given_up(folders, script, monkeypatch):
    monkeypatch.setattr(lockcommand, "END_S", 0.3)
    monkeypatch.setattr(lockcommand, "STOP_S", 0.3)
    with pytest.raises(LockLost, match="did not end"), locked(script('"$@"; exec sleep 60')):
        pass


def test_a_snapshot_that_takes_too_long_loses_the_lock(folders, script):
    with pytest.raises(LockLost), locked(script('"$@"; code=$?; note free; exit $code'), hold_s=0.3):
        until(lambda: script.notes() == ["free"])


def test_a_helper_that_is_not_there_is_named(folders):
    with pytest.raises(ProgramMissing, match="no-such-helper"), locked(["no-such-helper", "--password=x"]):
        raise AssertionError("not locked")


def test_only_the_helpers_name_is_ever_said(folders, script):
    command = [*script("exit 1"), "--password=s3cret"]
    lines = []
    with pytest.raises(LockNotGranted) as caught, lockcommand.locked(command, log=lines.append):
        raise AssertionError("not locked")
    assert "s3cret" not in str(caught.value) + "".join(lines)


def test_a_caller_that_says_nothing_holds_nobody_up(folders, script, monkeypatch):
    monkeypatch.setattr(lockcommand, "_READ_S", 0.3)
    probe = "import socket, sys, time; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[-1]); "
    probe += "time.sleep(1)"
    with locked(script(f"{sys.executable} -c '{probe}' \"$@\" & \"$@\"")):
        pass


BACKUP = """
import sys, time
from blockdiff.locking import lockcommand
with lockcommand.locked(sys.argv[1:], log=print):
    print("locked", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_backups_death_releases_the_lock(folders, script, number):
    command = [*script('"$@"; code=$?; note free $code; exit $code')]
    with Program(
        [sys.executable, "-c", BACKUP, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "TMPDIR": str(folders)},
    ) as backup:
        assert backup.stdout.readline() == "locked\n"
        backup.send_signal(number)
        backup.wait()
    try:
        until(lambda: script.notes() == ["free", "1"])
    finally:
        for folder in folders.iterdir():  # a killed backup cannot clean up
            shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
class TestUsers:
    """Whose gate is trusted; `nobody` is an example of another user."""

    @pytest.fixture(autouse=True)
    def _as_nobody(self, monkeypatch, tmp_path):
        import pwd
        import tempfile

        self.uid = pwd.getpwnam("nobody").pw_uid
        self.folder = tempfile.mkdtemp(dir="/tmp")  # pytest's own are closed to others
        os.chmod(self.folder, 0o755)
        monkeypatch.setattr("tempfile.tempdir", self.folder)
        self.python = shutil.which("python3", path="/usr/bin:/bin")
        if self.python is None:
            pytest.skip("no python3 that everybody may run")
        monkeypatch.setattr(sys, "executable", self.python)
        copy = Path(self.folder) / "gate.py"
        shutil.copy(gate.__file__, copy)
        copy.chmod(0o644)
        monkeypatch.setattr(gate, "__file__", str(copy))
        yield
        shutil.rmtree(self.folder)

    PREFIX = ("setpriv", "--reuid=nobody", "--clear-groups")

    def test_another_user_does_not_get_in(self):
        with pytest.raises(LockNotGranted), locked(self.PREFIX):
            raise AssertionError("not locked")

    def test_the_user_that_sudo_came_from_does(self):
        with locked(self.PREFIX, peers=frozenset((self.uid,))) as lock:
            assert lock.facts["method"] == "setpriv"

    def test_another_user_that_got_in_all_the_same_is_not_heard(self, monkeypatch):
        lines = []
        monkeypatch.setattr(lockcommand, "_give", lambda path, peers: os.chown(path, self.uid, -1))
        with (
            pytest.raises(LockNotGranted),
            lockcommand.locked(self.PREFIX, timeout_s=20, log=lines.append),
        ):
            raise AssertionError("not locked")
        assert [f"warning: a process of user {self.uid} connected to the gate's socket and was ignored"] == lines


def test_a_lock_command_is_not_given_our_stdin_or_stdout(folders, script, capfd):
    with locked(script('cat; echo chatter; "$@"')):
        pass
    out, err = capfd.readouterr()
    assert (out, err) == ("", "chatter\n")
