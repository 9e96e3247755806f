"""The options of commands that export a version as a disk."""

import os
import tempfile

import click

from blockdiff.commands import amounts, completing

cache_option = click.option(
    "--cache", type=amounts.Bytes(0, 1 << 50), default="256M", show_default=True, metavar="SIZE",
    help="Keep so many bytes decompressed.",
)  # fmt: skip
scratch_option = click.option(
    "--scratch", metavar="FOLDER", shell_complete=completing.files,
    help="Where an unnamed file with what is written is.  [default: TMPDIR]",
)  # fmt: skip


def runtime() -> str:
    """Return the folder for sockets of this user."""
    path = os.environ.get("XDG_RUNTIME_DIR", "")
    return path if os.access(path, os.W_OK | os.X_OK) else tempfile.gettempdir()
