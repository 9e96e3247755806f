"""mysqllock's options, as the original's command lines have them: Perl's Getopt::Long is asked."""

import itertools
import os
import random
import shutil
import subprocess

import click
import pytest

from blockdiff.commands import programs
from blockdiff.commands.mysqllock import _without_password

GETOPT = r"""
use Getopt::Long qw(:config require_order);
$SIG{__WARN__} = sub {};
while (my $line = <STDIN>) {
    chomp $line;
    local @ARGV = map { pack "H*", substr $_, 1 } split /,/, $line;
    my %is = ();
    my $good = GetOptions(\%is, "user=s", "password=s", "host=s", "port=i", "db=s", "before", "after", "help");
    print join(",", map { "x" . unpack "H*", $_ } $good ? ("good", scalar(%is), %is, @ARGV) : ("bad")), "\n";
}
"""
WORDS = [
    "-host=db00", "-host", "--ho=a=b", "+HOST=h", "-hos", "-h=db00", "-u", "-user=me", "--US=", "+u=x", "-pass=s3cret",
    "--pass", "-p", "-p=1", "-pa=", "--password=x", "-PASSWORD", "--po=3307", "-port=3306", "-po", "3308", "-d=shop", "--d",
    "--db", "-D=x", "--dbs=x", "-he", "--help", "--help=1", "-=x", "--", "-", "+", "---", "-uname", "env", "a=b", "7",
]  # fmt: skip


def taken(words):
    """Return what our command line takes words for: (options, COMMAND and its words), None if it refuses them."""
    try:
        with programs.load("mysqllock").make_context("mysqllock", list(words)) as context:
            given = context.params
    except click.UsageError:
        return None
    except click.exceptions.Exit:
        return "help"
    names = ("user", "password", "host", "port", "db")
    return {name: str(given[name]) for name in names if given[name] is not None}, list(given["words"])


def wanted(answer):
    """Return the same of Perl's answer."""
    if answer[0] == "bad":
        return None
    end = 2 + 2 * int(answer[1])
    options = dict(zip(answer[2:end:2], answer[3:end:2], strict=True))
    if "help" in options:
        return "help"
    return (options, answer[end:]) if answer[end:] else None


@pytest.mark.skipif(shutil.which("perl") is None, reason="perl is not installed")
def test_options_that_the_original_took_are_taken_so(capsys):
    lists = [*([word] for word in WORDS), *map(list, itertools.product(WORDS, repeat=2))]
    some = random.Random(1)
    lists += [some.choices(WORDS, k=some.randint(3, 6)) for _ in range(1500)]
    lists = [[*words, "env"] for words in lists]
    text = "".join(",".join("x" + word.encode().hex() for word in words) + "\n" for words in lists)
    environment = {name: value for name, value in os.environ.items() if name != "POSIXLY_CORRECT"}
    done = subprocess.run(["perl", "-e", GETOPT], input=text, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    answers = [[bytes.fromhex(word[1:]).decode() for word in line.split(",")] for line in done.stdout.splitlines()]
    kinds = set()
    for words, answer in zip(lists, answers, strict=True):
        theirs, ours = wanted(answer), taken(words)
        assert theirs in (None, ours), words
        kinds.add((theirs is None, ours is None))
    assert kinds == {(True, True), (True, False), (False, False)}  # an empty value, for one, is ours alone


@pytest.mark.parametrize("word", ["-h=db00", "-hdb00", "-p=s3cret", "-ps3cret", "--p=s3cret", "-pasword=s3cret"])
def test_what_may_be_one_of_two_options_is_refused(word):
    with pytest.raises(click.UsageError) as caught:
        programs.load("mysqllock").make_context("mysqllock", [word, "env"])
    assert "s3cret" not in caught.value.format_message()


def test_only_our_own_password_is_taken_out_of_the_arguments():
    own = ["--user", "--password", "--password", "a", "--kill-long-queries", "--password=b", "--host=h"]
    theirs = ["mysqldump", "--password=c", "--password", "d"]

    kept = ["--user=--password", "--kill-long-queries", "--host=h"]
    assert ([*kept, *theirs], "b") == _without_password([*own, *theirs])
    assert _without_password(["--", "--password=c"]) == (["--", "--password=c"], None)


@pytest.mark.parametrize("words", [["-pass=b"], ["--PASS", "b"], ["+password=b"], ["-pa", "a", "-password=b"]])
def test_the_originals_ways_to_write_it_are_taken_out_too(words):
    assert _without_password([*words, "-u=me", "env", "-pass=c"]) == (["--user=me", "env", "-pass=c"], "b")
