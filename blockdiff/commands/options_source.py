"""How a command reaches its source: the options and the environment, the same for all commands."""

import dataclasses
import os
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from blockdiff.commands.amounts import Bytes, Seconds
from blockdiff.printable import Log
from blockdiff.source import push, wanted
from blockdiff.transport.base import Transport
from blockdiff.transport.destination import Destination
from blockdiff.transport.local import LocalTransport
from blockdiff.transport.settings import SshSettings
from blockdiff.transport.stderr import HostLog

F = TypeVar("F", bound=Callable[..., Any])



BLOCK_SIZE = Bytes(1, 16 * 1024 * 1024)


def environment_block_size(environment: Mapping[str, str]) -> int | None:
    """Return BLOCKSIZE in bytes, None if it is not set.  Raises click.UsageError if it is not a size."""
    text = environment.get("BLOCKSIZE", "")
    if text in ("", "0"):
        return None
    try:
        return BLOCK_SIZE.convert(text, None, None)
    except click.BadParameter as error:
        raise click.UsageError(f"environment variable BLOCKSIZE: {error.message}") from None


def options(function: F, jobs: bool = True) -> F:
    """Give a command the options that decide how another host is reached and used, `jobs`: also --jobs."""
    threads = click.option(
        "--jobs", "threads", type=click.IntRange(0, 64), default=0, metavar="N",
        help="Threads on each side.  [default: here one for each core; on the other host one, or by its cores"
        " where it has no libxxhash]",
    )  # fmt: skip
    for option in reversed(
        (
            click.option("--sudo", is_flag=True, help="Run the agent through sudo -n on the other host."),
            click.option("--remote-python", metavar="PATH", help="Python to run the agent with.  [default: "
                         + ", ".join(push.PYTHONS) + "]"),
            click.option("--rsh", metavar="COMMAND", help="Reach the host with this ssh program and options"
                         " instead of paramiko; also BLOCKDIFF_RSH. Without it, BLOCKDIFF_SSH_CONFIG names a"
                         " configuration that is read instead of the user's and the system's, as with ssh -F."),
            click.option("--bwlimit", type=Bytes(0, 1 << 50), default=0, metavar="RATE",
                         help="Send at most so many bytes of blocks a second; 10M is ten MiB."),
            threads,
            click.option("--timeout", type=click.FloatRange(1, 86400), default=wanted.DEFAULT_TIMEOUT_S,
                         show_default=True, metavar="SECONDS", help="How long the other side may send nothing."),
            click.option("--progress-timeout", type=Seconds(30 * 86400), default=wanted.DEFAULT_PROGRESS_S,
                         show_default=True, metavar="TIME", help="How long it may send only heartbeats, and its"
                         " work does not go on."),
            click.option("--max-time", type=Seconds(365 * 86400), metavar="TIME", help="End the whole run when it has"
                         " taken so long, such as 90, 30m or 2h: as TERM does, but with exit code 28."),
        )
    ):  # fmt: skip
        if option is not threads or jobs:
            function = option(function)
    return function


@dataclass(frozen=True)
class Reach:
    """The values of those options."""

    sudo: bool
    remote_python: str | None
    rsh: str | None
    bwlimit: int
    threads: int
    timeout: float
    progress_timeout: float
    max_time: float | None

    def wanted(self, destination: Destination | None) -> dict[str, Any]:
        """Return what a Wanted has of them, of a source at a destination; None is this machine."""
        own = (sys.executable,) if destination is None else push.PYTHONS
        return {
            "threads": self.threads,
            "bwlimit": self.bwlimit,
            "timeout_s": self.timeout,
            "progress_s": self.progress_timeout,
            "pythons": (self.remote_python,) if self.remote_python else own,
        }

    def connect(self, destination: Destination | None, log: Log | None) -> Callable[[], Transport]:
        """Return what starts the agent's command at a destination; None is this machine.

        Raises click.UsageError where the environment or --rsh hold no shell words.
        """
        prefix = os.environ.get("SSH_BLOCKDIFF_PREFIX", "")
        _check_words("SSH_BLOCKDIFF_PREFIX", prefix)
        rsh = (self.rsh or os.environ.get("BLOCKDIFF_RSH") or "").strip() or None
        _check_words("--rsh" if self.rsh else "BLOCKDIFF_RSH", rsh or "")
        if log is not None:
            log = HostLog("localhost" if destination is None else destination.host, log)

        def local() -> Transport:
            return LocalTransport(push.local_command(self.remote_python, self.sudo, prefix), log=log, share=True)

        def remote() -> Transport:
            from blockdiff.transport import choose

            assert destination is not None
            config = os.environ.get("BLOCKDIFF_SSH_CONFIG")
            return choose.connect(
                destination,
                push.shell_command(self.remote_python, self.sudo, prefix),
                settings=SshSettings(environment=os.environ, config=Path(config) if config else None),
                timeout_s=self.timeout,
                rsh=rsh,
                log=log,
            )

        return local if destination is None else remote


def take_reach(parameters: dict[str, Any]) -> Reach:
    """Take the parameters of those options out of a command's, and return them."""
    return Reach(**{field.name: parameters.pop(field.name) for field in dataclasses.fields(Reach)})


def _check_words(origin: str, text: str) -> None:
    """Raise click.UsageError if text cannot be split into shell words; none of it is shown, it may be secret."""
    try:
        shlex.split(text)
    except ValueError as error:
        raise click.UsageError(f"{origin} cannot be split into words: {error}") from None


def cores() -> int:
    """Return how many threads this program can run at once."""
    return len(os.sched_getaffinity(0))
