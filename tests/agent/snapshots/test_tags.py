"""Who owns a snapshot: written into tags and read back, and dead only where that is certain."""

import os
import subprocess
import sys

import pytest

from agent.snapshots import tags

ME = tags.current("0123abcd", "f00d")


def test_tags_go_both_ways():
    words = ME.tags()
    assert words[0] == tags.MARK and f"blockdiff.pid.{os.getpid()}" in words and "blockdiff.set.0123abcd" in words
    assert all(tags._WORD.match(word) or len(word) > 64 for word in words)
    assert tags.parse(words) == ME
    assert tags.parse([*reversed(words), "somebody.else"]) == ME


@pytest.mark.parametrize("missing", range(8))
def test_tags_that_are_not_whole_are_not_ours(missing):
    words = ME.tags()
    del words[missing]
    assert tags.parse(words) is None


def test_tags_with_no_process_are_not_ours():
    assert tags.parse(ME._replace(pid="x").tags()) is None
    assert tags.parse([]) is None


@pytest.mark.parametrize("name", ["", "a b", "a,b", "x" * 65, "ä"])
def test_a_name_that_lvm_does_not_take_is_refused(name):
    for pair in ((name, "run"), ("set", name)):
        with pytest.raises(ValueError, match="LVM tag"):
            tags.current(*pair)


def test_an_owner_lives_until_its_process_ends():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = tags.current("set", "run", child.pid)
    assert owner.dead(ME) is False
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert owner.dead(ME) is True  # a zombie, too
    child.communicate()
    assert owner.dead(ME) is True
    assert tags.start_time(child.pid) is None


@pytest.mark.parametrize(
    ("changed", "dead"),
    [
        ({}, False), ({"start": "1"}, True), ({"boot": "another"}, True),
        ({"host": "another"}, None), ({"space": "1"}, None), ({"host": "another", "boot": "another"}, None),
    ],
)  # fmt: skip
def test_an_owner_is_dead_only_where_that_can_be_seen(changed, dead):
    assert ME._replace(**changed).dead(ME) is dead
