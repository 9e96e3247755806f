"""The words of the original's dump commands, alone or behind the name of a set."""

import click
import pytest

from blockdiff.commands import dump_arguments
from blockdiff.commands.dump_arguments import DUMP, LVM_DUMP, SSH_DUMP


@pytest.fixture(autouse=True)
def no_block_size(monkeypatch):
    monkeypatch.delenv("BLOCKSIZE", raising=False)


@pytest.mark.parametrize("word, name", [
    ("blockdiff_dump", DUMP), ("/usr/bin/ssh_lvm_dump", LVM_DUMP), ("ssh-blockdiff-dump", SSH_DUMP), ("dd", None),
])  # fmt: skip
def test_a_command_is_known_by_either_name_in_any_folder(word, name):
    assert dump_arguments.known(word) == name


@pytest.mark.parametrize("words, suffix", [(["-z"], ".gz"), (["--gzip"], ".gz"), (["--lzop"], ".lzop"), ([], "")])
def test_options_decide_the_suffix(words, suffix):
    line = dump_arguments.parse(DUMP, [*words, "/srv/disk.img"])
    assert (line.suffix, line.path, line.destination) == (suffix, "/srv/disk.img", None)


def test_default_block_sizes_are_the_originals(monkeypatch):
    lines = [dump_arguments.line(program, None, None, operands) for program, operands in (
        (DUMP, ["f"]), (SSH_DUMP, ["h", "/f"]), (LVM_DUMP, ["h", "/f"]),
    )]  # fmt: skip
    assert [line.default_block_size for line in lines] == [16384, 16384, 1 << 20]
    monkeypatch.setenv("BLOCKSIZE", "4096")
    assert dump_arguments.line(DUMP, None, None, ["f"]).default_block_size == 4096


def test_a_host_word_may_begin_with_options_of_ssh():
    line = dump_arguments.parse(SSH_DUMP, ["--gzip", "-p 2222 root@db00", "/dev/vg0/x"])
    assert (line.destination.host, line.path, line.suffix) == ("db00", "/dev/vg0/x", ".gz")


@pytest.mark.parametrize("program, operands", [(DUMP, ["a", "b"]), (SSH_DUMP, ["/dev/x"]), (LVM_DUMP, ["h", "a", "b"])])
def test_too_few_or_too_many_operands_are_wrong_usage(program, operands):
    with pytest.raises(click.UsageError):
        dump_arguments.line(program, None, None, operands)
