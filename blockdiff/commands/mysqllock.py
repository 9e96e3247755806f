"""mysqllock [OPTIONS] COMMAND ARGS...: run a command while a database server is locked."""

import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from blockdiff import mysqllock
from blockdiff.commands import completing
from blockdiff.errors import LockUnreachable, ProgramMissing
from blockdiff.locking import gate
from blockdiff.mysql import account, optionfile, readlock
from blockdiff.mysql.account import Account

OPTION_FILES = ("/etc/my.cnf", "/etc/mysql/my.cnf", "~/.my.cnf")
_LIMITS = readlock.Limits()
_ORIGINAL = ("user", "password", "host", "port", "db", "help")  # the original's options
_OPTION = re.compile(r"(?:--|-|\+)([^=]+)(=?)(.*)", re.DOTALL)


class _Command(click.Command):
    """A command with the original's ways to write options; -h means help, not the host."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        options, words = _split(args)
        if options and options[0].startswith("-h") and (options[0], words) != ("-h", []):
            raise click.UsageError("-h alone is for help; the host is given as --host=NAME", ctx)
        return super().parse_args(ctx, [*options, *words])


@click.command(cls=_Command, context_settings={"allow_interspersed_args": False})
@click.option("--user", metavar="NAME", help="Account at the server.  [default: USER, else root]")
@click.option(
    "--password",
    metavar="TEXT",
    help="Its password. An option file or MYSQL_PWD is better: other users can see a command line"
    " until mysqllock has removed the password from it.",
)
@click.option("--password-fd", type=int, hidden=True)
@click.option("--host", metavar="NAME", help="The server; localhost means its socket.  [default: localhost]")
@click.option("--port", type=click.IntRange(1, 65535), help="Its TCP port.  [default: 3306]")
@click.option("--socket", metavar="PATH", shell_complete=completing.files, help="Its unix socket.")
@click.option("--db", metavar="NAME", help="Database to use.  [default: mysql, if the account may use it]")
@click.option(
    "--defaults-file",
    type=click.Path(exists=True, dir_okay=False, readable=True),
    help="Read only this option file.  [default: " + ", ".join(OPTION_FILES) + "]",
)
@click.option("--ssl", is_flag=True, help="Refuse a connection that is not encrypted.")
@click.option(
    "--ssl-ca",
    metavar="FILE",
    shell_complete=completing.files,
    help="Authorities to trust; the server's certificate is checked against them.",
)
@click.option("--ssl-cert", metavar="FILE", shell_complete=completing.files, help="Our certificate.")
@click.option("--ssl-key", metavar="FILE", shell_complete=completing.files, help="Its key.")
@click.option("--ssl-verify-server-cert", is_flag=True, help="Check that its certificate names the host.")
@click.option(
    "--method",
    type=click.Choice(readlock.METHODS),
    default=readlock.FTWRL.name,
    show_default=True,
    help="FLUSH TABLES WITH READ LOCK; BACKUP STAGE (MariaDB 10.4.1 and newer); the latter if the server has it.",
)
@click.option("--before", metavar="STATEMENT", help="Lock with this statement instead.")
@click.option("--after", metavar="STATEMENT", help="Unlock with this.  [default: UNLOCK TABLES]")
@click.option(
    "--wait-query",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    default=_LIMITS.wait_query_s,
    show_default=True,
    help="Lock only when no query has been running for so long.",
)
@click.option(
    "--wait-timeout",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    default=_LIMITS.wait_timeout_s,
    show_default=True,
    help="Give up after waiting for that so long. No writer is blocked meanwhile.",
)
@click.option(
    "--lock-timeout",
    type=click.FloatRange(min=0.1),
    metavar="SECONDS",
    default=_LIMITS.lock_timeout_s,
    show_default=True,
    help="Give up if the lock is not granted within this time. Writers wait meanwhile.",
)
@click.option(
    "--max-hold",
    type=click.FloatRange(min=0.1),
    metavar="SECONDS",
    default=mysqllock.MAX_HOLD_S,
    show_default=True,
    help="Release the lock after this time even if the command still runs; then exit with 42.",
)
@click.option("--kill-long-queries", is_flag=True, help="Kill queries that are still running after --wait-timeout.")
@click.argument(
    "words",
    metavar="COMMAND [ARGS]...",
    nargs=-1,
    required=True,
    type=click.UNPROCESSED,
    shell_complete=completing.files,
)
@click.pass_context
def command(context: click.Context, /, words: tuple[str, ...], **options: Any) -> None:
    """Run COMMAND while all tables of a MySQL or MariaDB server are locked for reading.

    The exit code is COMMAND's (128 + N after signal N), or 40 if there is no connection to the
    server, 41 if the lock was not granted in time, 42 if it was lost before COMMAND had ended.
    """
    if options["password"] is not None:
        _start_anew(options["password"])
    if shutil.which(words[0]) is None:  # before the lock, not while writers wait
        if gate.path_in(list(words)) is not None:
            # a word between our options and the backup's command, such as a part of a password
            raise ProgramMissing("of mysqllock (a word after its options is taken for a command: quotes missing?)")
        raise ProgramMissing(words[0])
    limits = readlock.Limits(
        wait_query_s=options["wait_query"],
        wait_timeout_s=options["wait_timeout"],
        lock_timeout_s=options["lock_timeout"],
        kill_long_queries=options["kill_long_queries"],
    )
    lock = readlock.ReadLock(_account(options), _method(options), limits, log=_log)
    result = mysqllock.run(words, lock, environ=os.environ, max_hold_s=options["max_hold"], log=_log)
    context.exit(result.exit_code)


def _account(options: dict[str, Any]) -> Account:
    """Return the account; log a warning for each option file that is ignored."""
    files = [options["defaults_file"]] if options["defaults_file"] else OPTION_FILES
    if options["password_fd"] is not None:
        with open(options["password_fd"], encoding="utf-8", errors="surrogateescape") as pipe:
            options["password"] = pipe.read()
    try:
        found = optionfile.read(Path(os.path.expanduser(path)) for path in files)
        for warning in found.warnings:
            _log(f"warning: {warning}")
        return account.resolve(options, found.values, os.environ)
    except OSError as error:
        raise LockUnreachable(f"{error.filename}: {error.strerror}") from error
    except ValueError as error:
        raise LockUnreachable(f"an option file: {error}") from error


def _method(options: dict[str, Any]) -> str | readlock.Method:
    """Return the method's name, or a method with the statements of --before and --after."""
    before, after = options["before"], options["after"]
    if before is None and after is None:
        return str(options["method"])
    if options["method"] != readlock.FTWRL.name:
        raise click.UsageError("--before and --after cannot be used with --method")
    if before is None:
        return readlock.Method(readlock.FTWRL.name, readlock.FTWRL.lock, after)
    return readlock.Method("custom", (before,), after or readlock.FTWRL.unlock)


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return (our options, each with its value as one word; COMMAND and its words).

    The original's options may be written as Perl's Getopt::Long takes them by default: `-` and `+` mean
    the same as `--`, any beginning that only one of them has means its name, in small letters or
    capitals, and the value is the next word, even if it looks like an option, or follows `=`.
    """
    flags = {name for option in command.params if getattr(option, "is_flag", False) for name in option.opts}
    options: list[str] = []
    rest = iter(arguments)
    for word in rest:
        match = _OPTION.fullmatch(word)
        names = [name for name in _ORIGINAL if match and name.startswith(match[1].lower())]
        if match is None or word == "--" or (word.startswith("+") and len(names) != 1):
            return options, [word, *rest]
        name, equals, value = match.groups()
        name = f"--{names[0]}" if len(names) == 1 else word.removesuffix(equals + value)
        if not equals and name not in flags and name != "--help":
            equals, value = next((("=", following) for following in rest), ("", ""))
        options.append(name + equals + value)
    return options, []


def _without_password(arguments: Sequence[str]) -> tuple[list[str], str | None]:
    """Return our arguments without the password, and the password; COMMAND's are unchanged."""
    options, words = _split(arguments)
    passwords = [word.partition("=")[2] for word in options if word.startswith("--password=")]
    kept = [word for word in options if not word.startswith("--password=")]
    return [*kept, *words], passwords[-1] if passwords else None


def _start_anew(password: str) -> None:
    """Start this program again without the password among its arguments, if it is there.

    The password goes through a pipe that is read and closed before COMMAND starts.
    """
    arguments, typed = _without_password(sys.argv[1:])
    ours = len(sys.orig_argv) - len(sys.argv[1:])
    if typed != password or sys.orig_argv[ours:] != sys.argv[1:]:
        return  # not the command line of this process
    reader, writer = os.pipe()
    os.write(writer, os.fsencode(password))
    os.close(writer)
    os.set_inheritable(reader, True)
    words = [sys.executable, *sys.orig_argv[1:ours], f"--password-fd={reader}", *arguments]
    os.execv(sys.executable, words)


def _log(text: str) -> None:
    click.echo(text, err=True)
