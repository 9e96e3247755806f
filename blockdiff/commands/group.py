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
    "nbd": "nbd",
    "check": "check",
    "consolidate": "consolidate",
    "copy": "copy",
    "drill": "drill",
    "prune": "prune",
    "list": "list",
    "look": "look",
    "report": "report",
    "run": "run",
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


def _show_version(ctx: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from blockdiff import __version__
        from blockdiff.blocks import md5many

        click.echo(f"{ctx.find_root().info_name}, version {__version__}\nmd5: {md5many.engine}")
        ctx.exit()


@click.command(cls=_Group)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version,
    help="Show the version, and what computes MD5s, and exit.",
)  # fmt: skip
def command() -> None:
    """Block-level incremental backups over SSH, with nothing installed on the source."""
