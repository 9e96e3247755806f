"""The programs by name; every launcher and entry point calls `main`.

The original's names with underscores are programs, too, so that its crontabs keep working.
Only the modules of the program that runs are imported.
"""

import importlib
import os
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import click

# name -> module in blockdiff.commands; the command is its `command`
PROGRAMS = {
    "blockdiff": "group",
    "blockdiff-backup": "backup",
    "blockdiff-dump": "dump",
    "ssh-blockdiff-dump": "ssh_dump",
    "ssh-lvm-dump": "lvm_dump",
    "blockdiff-merge": "merge",
    "blockdiff-verify": "verify",
    "blockdiff-nbd": "nbd",
    "blockdiff-check": "check",
    "blockdiff-consolidate": "consolidate",
    "blockdiff-copy": "copy",
    "blockdiff-drill": "drill",
    "blockdiff-prune": "prune",
    "blockdiff-list": "list",
    "blockdiff-look": "look",
    "blockdiff-report": "report",
    "blockdiff-run": "run",
    "mysqllock": "mysqllock",
    "cronlog": "cronlog",
}
STDIN, STDOUT, STDERR = range(3)
OLD_DIGESTS, NEW_DIGESTS = 5, 6  # the original's descriptors

# Which of them the caller opened: checked before we open any file, which could get
# one of these numbers.
inherited: frozenset[int] = frozenset()


def _open_descriptors() -> frozenset[int]:
    found = set()
    for number in (STDIN, STDOUT, STDERR, OLD_DIGESTS, NEW_DIGESTS):
        try:
            os.fstat(number)
        except OSError:
            continue
        found.add(number)
    return frozenset(found)


def _fill_standard_descriptors() -> None:
    """Open /dev/null for each standard descriptor that the caller closed.

    Otherwise a file of ours would get its number, and a message could get into a backup.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if number not in inherited:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest free number, which is this one
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


def load(module: str) -> "click.Command":
    """Return the command of a module, with the options that all commands have: -h, --help and --version."""
    import click

    from blockdiff import __version__

    command: click.Command = importlib.import_module(f"blockdiff.commands.{module}").command
    command.context_settings.setdefault("help_option_names", ["-h", "--help"])
    if not any("--version" in parameter.opts for parameter in command.params):
        click.version_option(__version__)(command)
    return command


def main() -> NoReturn:
    """Run the program that sys.argv[0] names."""
    global inherited
    inherited = _open_descriptors()
    _fill_standard_descriptors()
    name = os.path.basename(sys.argv[0])
    module = PROGRAMS.get(name.replace("_", "-"))
    if module is None:
        sys.exit(f"blockdiff: no program named {name}; the programs are {', '.join(PROGRAMS)}")
    from blockdiff.commands import exits

    exits.run(load(module), name)
