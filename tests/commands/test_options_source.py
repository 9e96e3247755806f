"""The options that say how the source host is reached, and the environment's words for it."""

import pytest

USAGE = 2


@pytest.mark.parametrize("source", ["/dev/null", "root@nas:/dev/vg0/home"])
@pytest.mark.parametrize("origin", ["SSH_BLOCKDIFF_PREFIX", "BLOCKDIFF_RSH", "--rsh"])
def test_words_that_end_inside_quotes_are_wrong_usage_and_not_repeated(run, tmp_path, origin, source):
    value, reason = ("s3cret\\", "No escaped character") if source == "/dev/null" else ("a 's3cret", "No closing quotation")
    option = ["--rsh", value] if origin == "--rsh" else []
    done = run("blockdiff-backup", *option, tmp_path / "set", source, env={} if option else {origin: value})
    *_, last = done.stderr.splitlines()
    assert (done.returncode, last) == (USAGE, f"Error: {origin} cannot be split into words: {reason}")
    assert "s3cret" not in done.stdout + done.stderr
    assert not list(tmp_path.glob("set.[0-9v]*"))


def test_a_dump_refuses_such_words_too(run, tmp_path):
    words = ["--digests-out", tmp_path / "digests", "root@nas", "/dev/vg0/home"]
    done = run("ssh-blockdiff-dump", *words, env={"SSH_BLOCKDIFF_PREFIX": "nice 's3cret"})
    assert (done.returncode, done.stdout) == (USAGE, "")
    assert "SSH_BLOCKDIFF_PREFIX cannot be split into words" in done.stderr and "s3cret" not in done.stderr


def test_an_rsh_of_blanks_is_none(run, tmp_path):
    """As an empty one is: the host is reached as without it."""
    words = [tmp_path / "set", "root@no-such-host.invalid:/x"]
    without, blank = (run("blockdiff-backup", *option, *words) for option in ([], ["--rsh", "  "]))
    assert (blank.returncode, blank.stderr) == (without.returncode, without.stderr)
    assert without.returncode == 20
