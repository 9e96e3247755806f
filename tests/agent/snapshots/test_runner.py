"""Programs of the source host: their output, their reasons, and what of their words is passed on.

The lab runs it with LVM's own programs.
"""

import pytest

from agent.snapshots.runner import ProgramFailed, Runner


def test_a_program_that_works_is_heard_only_by_those_who_want_that(lvs):
    lvs("nothing new")
    for verbose, heard in ((False, []), (True, ["lvs: nothing new"])):
        lines = []
        run = Runner(lines.append, verbose)
        for _ in range(3):
            run.chatter("lvs", run("lvs"))
        assert lines == heard


def test_of_a_program_that_fails_all_is_heard_once(lvs):
    lvs("  WARNING: a disk is missing\n  cannot do it\n", code=5)
    lines = []
    run = Runner(lines.append)
    for _ in range(3):
        with pytest.raises(ProgramFailed, match=r"^lvs: cannot do it$"):
            run("lvs")
    assert lines == ["lvs: WARNING: a disk is missing"]


def test_a_program_that_always_says_something_else_is_heard_no_longer(lvs):
    lines = []
    run = Runner(lines.append, verbose=True)
    for begin in range(0, 1000, 100):
        run.chatter("lvs", "\n".join(str(number) for number in range(begin, begin + 100)))
    assert len(lines) == 200


def test_a_program_that_is_not_there_has_a_code_of_its_own():
    with pytest.raises(ProgramFailed) as failed:
        Runner()("no-such-program-anywhere")
    assert failed.value.code == 127 and failed.value.program == "no-such-program-anywhere"


def test_a_program_that_ends_without_words_is_named_by_its_code():
    with pytest.raises(ProgramFailed, match=r"^sh: exit code 7$"):
        Runner()("sh", "-c", "exit 7")


def test_it_speaks_c_and_has_nothing_to_read(monkeypatch):
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert Runner()("sh", "-c", "cat; echo $LC_ALL") == "C\n"
