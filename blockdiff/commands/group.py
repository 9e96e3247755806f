"""blockdiff COMMAND ...: all commands under one name; `blockdiff backup` is `blockdiff-backup`."""

import click

from blockdiff.commands import programs

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
    """A group that imports a command only when it is called or described."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = _COMMANDS.get(cmd_name)
        return None if module is None else programs.load(module)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS and not args[0].startswith("-") and not ctx.resilient_parsing:
            raise click.NoSuchCommand(args[0], possibilities=_COMMANDS, ctx=ctx)
        return super().resolve_command(ctx, args)


@click.command(cls=_Group)
def command() -> None:
    """Block-level incremental backups over SSH, with nothing installed on the source."""
