"""What the words behind a set's name are: a source, or a command."""

import pytest

from blockdiff.commands import backup, operands


def split(line, always_command=False):
    values = {
        name: option.nargs
        for option in backup.command.params
        if option.param_type_name == "option" and not option.is_flag
        for name in option.opts
    }
    own, words = operands.split(line.split(), values, always_command)
    return " ".join(own), " ".join(words)


@pytest.mark.parametrize(
    "line, own, words",
    [
        # one operand behind NAME that is no known command is a source, options of ours on either side
        ("db /dev/sda", "db /dev/sda", ""),
        ("db host:/dev/sda", "db host:/dev/sda", ""),
        ("db gunzip", "db gunzip", ""),
        ("--full db /dev/sda", "--full db /dev/sda", ""),
        ("db --full /dev/sda --quiet", "db --full /dev/sda --quiet", ""),
        ("db /dev/sda --block-size 4096 --zstd", "db /dev/sda --block-size 4096 --zstd", ""),
        ("--block-size 4096 db --timeout 5 /dev/sda", "--block-size 4096 db --timeout 5 /dev/sda", ""),
        ("--block-size=4096 db /dev/sda", "--block-size=4096 db /dev/sda", ""),
        ("db -", "db -", ""),
        # two or more are a command with all that follows it
        ("db prog arg", "db", "prog arg"),
        ("--full db prog --full arg -z", "--full db", "prog --full arg -z"),
        ("db --full prog arg", "db --full", "prog arg"),
        ("db prog -- arg", "db", "prog -- arg"),
        # a known command is one, whatever follows it, with dashes or underscores, in any folder
        ("db blockdiff-dump", "db", "blockdiff-dump"),
        ("db blockdiff_dump -z /dev/sda", "db", "blockdiff_dump -z /dev/sda"),
        ("db ssh_blockdiff_dump host", "db", "ssh_blockdiff_dump host"),
        ("db /usr/local/bin/ssh_lvm_dump --gzip h /dev/v/l", "db", "/usr/local/bin/ssh_lvm_dump --gzip h /dev/v/l"),
        ("--json db ssh-lvm-dump --json", "--json db", "ssh-lvm-dump --json"),
        ("blockdiff-dump /dev/sda", "blockdiff-dump /dev/sda", ""),  # a set may be called so
        # what follows -- is a command
        ("db -- prog", "db", "prog"),
        ("--full db -- prog arg", "--full db", "prog arg"),
        ("db -- /dev/sda", "db", "/dev/sda"),
        # unless it stands before NAME: then it only ends our options
        ("-- -db /dev/sda", "-- -db /dev/sda", ""),
        ("--full -- -db prog arg", "--full -- -db", "prog arg"),
        ("-- db blockdiff-dump", "-- db", "blockdiff-dump"),
        ("-- db -- prog", "-- db", "prog"),
        ("db", "db", ""),
        ("", "", ""),
    ],
)
def test_source_or_command(line, own, words):
    assert split(line) == (own, words)


@pytest.mark.parametrize(
    "line, own, words",
    [
        ("db /bin/prog", "db", "/bin/prog"),
        ("--full db prog", "--full db", "prog"),
        ("db host:/dev/sda", "db", "host:/dev/sda"),
        ("db blockdiff_dump /dev/sda", "db", "blockdiff_dump /dev/sda"),
        ("db -- prog", "db", "prog"),
        ("-- db prog", "-- db", "prog"),
        ("db", "db", ""),
    ],
)
def test_under_the_originals_name_it_is_always_a_command(line, own, words):
    assert split(line, always_command=True) == (own, words)
