"""blockdiff COMMAND ...: all commands under one name; `blockdiff backup` is `blockdiff-backup`."""

import importlib

import click

from blockdiff import __version__

_COMMANDS = {
    "backup": "backup",
    "dump": "dump",
    "ssh-dump": "ssh_dump",
    "lvm-dump": "lvm_dump",
    "merge": "merge",
    "verify": "verify",
    "list": "list",
    "mysqllock": "mysqllock",
    "cronlog": "cronlog",
}


class _Group(click.Group):
    """Import a command only when it is called or described."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = _COMMANDS.get(cmd_name)
        if module is None:
            return None
        found: click.Command = importlib.import_module(f"blockdiff.commands.{module}").command
        return found


@click.command(cls=_Group)
@click.version_option(__version__, prog_name="blockdiff")
def command() -> None:
    """Block-level incremental backups over SSH, with nothing installed on the source."""
