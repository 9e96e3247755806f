"""Signals and errors become a line on stderr and an exit code; no other module exits."""

import contextlib
import os
import signal
import sys
from types import FrameType
from typing import Any, NoReturn

import click

from blockdiff.commands import text
from blockdiff.errors import BlockdiffError, Interrupted, RunTooLong

_ASKED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_ENDING = (*_ASKED, signal.SIGALRM)


def _ignore(number: int, frame: FrameType | None) -> None:
    """Ignore a signal; with SIG_IGN Python would warn about a pending one."""


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    for other in _ENDING:  # cleaning up is bounded; a second ^C must not cut it short
        signal.signal(other, _ignore)
    raise Interrupted(signal.Signals(number).name, 128 + number)


def limit(seconds: float | None) -> None:
    """End this run by RunTooLong after so many seconds from now on; None: never."""
    if seconds is None:
        return

    def too_long(number: int, frame: FrameType | None) -> NoReturn:
        for other in _ENDING:
            signal.signal(other, _ignore)
        raise RunTooLong(f"{seconds:g}")

    signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def _ignore_signals() -> None:
    """Ignore signals from now on, so that the exit code stays: at its end python resets handlers, but not SIG_IGN."""
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)


def run(command: click.Command, prog_name: str) -> NoReturn:
    """Run a command as a program and exit."""
    for number in _ASKED:
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup sets it
            signal.signal(number, _interrupt)
    code: object = 0
    try:
        code = command.main(prog_name=prog_name, standalone_mode=False)
        _ignore_signals()
    except (BlockdiffError, Interrupted) as error:
        code = report(error)
        _put_owed(describe(error))
    except click.ClickException as error:
        error.show()
        name, code = type(error).__name__, error.exit_code
        _put_owed({"class": name, "message": error.format_message(), "hint": "", "exit_code": code})
    except click.Abort:
        code = 130
    except BrokenPipeError:  # the reader of our output has ended
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    _ignore_signals()
    sys.exit(code if isinstance(code, int) else 0)


def report(error: BlockdiffError | Interrupted) -> int:
    """Print an error and return its exit code."""
    click.echo(f"blockdiff: {error.about}: {error}" if error.about else f"blockdiff: {error}", err=True)
    return error.exit_code


def describe(error: BlockdiffError | Interrupted) -> dict[str, Any]:
    """Return an error as the JSON of every command has it."""
    return {
        "class": type(error).__name__,
        "message": error.message,
        "hint": error.hint,
        "exit_code": error.exit_code,
    }


def brief(fault: BlockdiffError) -> dict[str, Any]:
    """Return a fault as the JSON of a verify has it."""
    return {"error": type(fault).__name__, "exit_code": fault.exit_code, "message": str(fault)}


def _put_owed(error: dict[str, Any]) -> None:
    """Print the error as JSON if --json was given and no result has been printed."""
    if text.json_owed():
        text.put_json({"error": error})
