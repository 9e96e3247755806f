"""The lock command's words, from --lock and from LVCREATE_PREFIX, in which there may be a password."""

import pytest
from mysqllocks import MYSQLLOCK, ROOT

from blockdiff.commands import options_lock
from blockdiff.errors import LockNotGranted
from blockdiff.locking import lockcommand

USAGE = 2
SPLIT = "cannot be split into words: "
BETWEEN = SPLIT + "it is split at every blank, and there is one between its quotes (hint: --lock understands"


@pytest.mark.parametrize(
    "value, message",
    [
        ("mysqllock --password='my s3cret'", BETWEEN),
        ("mysqllock '--password=my s3cret' --host=db00", BETWEEN),
        ("mysqllock -p'my s3cret'", BETWEEN),
        ('mysqllock --password="my s3cret', BETWEEN),
        ("mysqllock --password=my\\ s3cret", SPLIT + "it is split at every blank, and there is one after a backslash"),
    ],
)
def test_a_lock_whose_words_were_torn_apart_is_not_run_and_not_repeated(run, tmp_path, value, message):
    """Of a password with a blank the second half would be the command that is run, and that is not found."""
    done = run("blockdiff-backup", tmp_path / "db", "/dev/null", env={"LVCREATE_PREFIX": value})
    *_, last = done.stderr.splitlines()
    assert done.returncode == USAGE and message in last and "LVCREATE_PREFIX" in last
    assert "s3cret" not in done.stderr and " my" not in done.stderr


def test_a_lock_option_with_an_open_quote_is_not_repeated(run, tmp_path):
    done = run("blockdiff-backup", "--lock", "mysqllock --password='s3cret", tmp_path / "db", "/dev/null")
    assert done.returncode == USAGE and f"--lock {SPLIT}No closing quotation" in done.stderr
    assert "s3cret" not in done.stderr


@pytest.mark.parametrize("word", ["--password=it's", "--password='s3cret'", '--password=a"b', "a=b'c=d"])
def test_quotes_in_the_originals_variable_are_letters(word):
    assert options_lock._split(f"lock  {word} x") == ["lock", word, "x"]


def test_half_a_password_that_became_a_command_is_not_said(monkeypatch, capfd):
    """As `--password=my s3cret` without quotes has it."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    command = [*MYSQLLOCK, "--socket=/no", "--password=my", "s3cret"]
    with pytest.raises(LockNotGranted, match="exit code 16"), lockcommand.locked(command, log=print):
        raise AssertionError("not locked")
    out, err = capfd.readouterr()
    assert "a word after its options is taken for a command" in err and "s3cret" not in out + err
