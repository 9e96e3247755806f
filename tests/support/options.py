"""Every option of every program, and the programs' old names."""

import click

from blockdiff.commands import programs

# as the original spelt them; `mysqllock` was already spelt so
ORIGINAL = ("blockdiff_backup", "blockdiff_dump", "blockdiff_merge", "ssh_blockdiff_dump", "ssh_lvm_dump")

def command_of(name):
    return programs.load(programs.PROGRAMS[name])


def options_of(name):
    """Return every way to write an option of a program."""
    parameters = [p for p in command_of(name).params if isinstance(p, click.Option) and not p.hidden]
    return {"-h", "--help"} | {word for p in parameters for word in (*p.opts, *p.secondary_opts)}
EVERY_OPTION = {option for name in programs.PROGRAMS for option in options_of(name)}
