"""cronlog's options, as the original's command lines have them: Perl's Getopt::Long is asked."""

import itertools
import os
import random
import shutil
import subprocess

import click
import pytest
from cronlogs import HOST, run

from blockdiff.commands import programs


def test_the_commands_options_are_its_own():
    _, out, _ = run("--print-always", "--", "echo", "-t", "--logfile", "--help")
    assert out.splitlines()[1] == "-t --logfile --help"

    _, out, _ = run("--print-always", "echo", "-t", "--all")  # the original refused --all
    assert out.splitlines()[1] == "-t --all"


def test_without_a_command_there_is_nothing_to_do(tmp_path):
    log = tmp_path / "log"
    for words in ([], ["--"], ["-t"], [""], ["--", " "]):
        assert run("-l", str(log), *words)[:2] == (2, "")
    assert not log.exists()


perl = pytest.mark.skipif(shutil.which("perl") is None, reason="perl is not installed")

GETOPT = r"""
use Getopt::Long;
$SIG{__WARN__} = sub {};
while (my $line = <STDIN>) {
    chomp $line;
    my @words = map { pack "H*", substr $_, 1 } split /,/, $line;
    for my $order (qw(require_order permute)) {
        Getopt::Long::Configure("default", $order);
        my (%is, @left) = ();
        @left = @words;
        local @ARGV = @left;
        my $good = GetOptions(\%is, "logfile=s", "timestamp", "print-always", "help", "version");
        print join(",", map { "x" . unpack "H*", $_ } $good ? ("good", %is, "--", @ARGV) : ("bad")), "\n";
    }
}
"""

WORDS = [
    "-l", "-l=L", "-logfile=L", "--log", "--LOG=L", "--log=", "--logfile", "+l", "-l ", "-lL", "-t", "--time", "-T",
    "-t=1", "--timestamps", "-p", "--print", "--print_always", "+print-always", "--help", "-h", "-v", "--version", "-tp",
    "-=l", "-l=a=b", "--", "-", "+", "---", "--x", "", "0", "make", "a=b", "-\n", "all && clean",
]  # fmt: skip


def taken(words):
    """Return what our command line takes words for: (options, COMMAND and its words), None if it refuses them."""
    try:
        with programs.load("cronlog").make_context("cronlog", list(words)) as context:
            given = context.params
    except click.UsageError:
        return None
    except click.exceptions.Exit:
        return "help or version"
    options = {name: given[name] for name in ("logfile", "timestamp", "print_always")}
    return options, list(given["words"])


def wanted(strict, anywhere):
    """Return the same of Perl's two answers: options before the first operand, and anywhere."""

    def split(answer):
        if answer[0] == "bad":
            return None
        end = answer.index("--", 1) if "--" in answer[1:] else len(answer)
        while (end - 1) % 2:  # the value of -l may be --
            end = answer.index("--", end + 1)
        return dict(zip(answer[1:end:2], answer[2:end:2], strict=True)), answer[end + 1 :]

    strict, anywhere = split(strict), split(anywhere)
    if strict is None:
        return None
    options, words = strict
    if options.keys() & {"help", "version"}:
        return "help or version"
    if not words or (anywhere and anywhere[0] != options):
        return None  # nothing to run; or the original took options that ours would give to the command
    known = {name.replace("-", "_"): value for name, value in options.items()}
    return {
        "logfile": known.get("logfile"),
        "timestamp": "timestamp" in known,
        "print_always": "print_always" in known,
    }, words


@perl
def test_options_are_those_of_perls_getopt(capsys):
    lists = [[], *([word] for word in WORDS), *map(list, itertools.product(WORDS, repeat=2))]
    some = random.Random(1)
    lists += [some.choices(WORDS, k=some.randint(3, 6)) for _ in range(1500)]
    text = "".join(",".join("x" + word.encode().hex() for word in words) + "\n" for words in lists)
    environment = {name: value for name, value in os.environ.items() if name != "POSIXLY_CORRECT"}
    done = subprocess.run(["perl", "-e", GETOPT], input=text, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    answers = [
        [bytes.fromhex(word[1:]).decode() for word in line.split(",")] for line in done.stdout.splitlines()
    ]
    assert len(answers) == 2 * len(lists)
    kinds = set()
    for words, strict, anywhere in zip(lists, answers[::2], answers[1::2], strict=True):
        found = taken(words)
        assert found == wanted(strict, anywhere), words
        kinds.add(found if found is None or isinstance(found, str) else "run")
    assert kinds == {None, "help or version", "run"}


@pytest.mark.parametrize("words", [["-logfile=L"], ["-l=L"], ["--log", "L"], ["+LOG=L"], ["-t", "-p", "--logf", "L"]])
def test_lines_that_the_original_took(tmp_path, words):
    assert run(*words, "--", "sh", "-c", "exit 7", cwd=tmp_path)[0] == 7
    assert (tmp_path / "L").read_text().endswith("command exited with code:7\n")


def test_an_empty_log_is_none(tmp_path):
    assert run("-l", "", "-p", "echo", "one", cwd=tmp_path)[:2] == (
        0,
        f"{HOST} starting: echo one\none\ncommand exited with code:0\n",
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [["-l"], ["--log="], ["-lL"], ["--timestamp=1"], ["-x"], ["+"], ["echo", "-t"]])
def test_what_cannot_be_taken_is_refused_before_anything_is_logged(tmp_path, words):
    code, out, err = run("-l", "L", *words, cwd=tmp_path)

    assert (code, out) == (2, "")
    assert err.startswith("Usage: cronlog")
    assert not list(tmp_path.iterdir())


def test_help_and_version_run_nothing(tmp_path):
    for word in ("-h", "--help", "--he", "-v", "--version"):
        code, out, err = run("-l", "L", word, "--", "touch", "ran", cwd=tmp_path)
        assert (code, err) == (0, "")
        assert out.startswith("Usage: cronlog" if "h" in word else "cronlog, version ")
    assert not list(tmp_path.iterdir())
