"""The options of signatures: the key that signs, and whose signatures count."""

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from blockdiff.commands import completing
from blockdiff.signing.allowed import MAX_SIZE, AllowedSigners
from blockdiff.signing.signer import Signer

F = TypeVar("F", bound=Callable[..., Any])

sign_option = click.option(
    "--sign", "sign", metavar="KEYFILE", shell_complete=completing.files,
    help="Sign the version's manifest with this key of OpenSSH.",
)  # fmt: skip
sign_anew_option = click.option(
    "--sign", "sign", metavar="KEYFILE", shell_complete=completing.files,
    help="Sign versions that are signed, and are written anew, with this key of OpenSSH.",
)  # fmt: skip

sign_unsigned_option = click.option(
    "--sign", "sign", metavar="KEYFILE", shell_complete=completing.files,
    help="Sign versions that are not signed with this key of OpenSSH.",
)  # fmt: skip


def _read(context: click.Context, parameter: click.Parameter, path: str | None) -> AllowedSigners | None:
    """Return what the option's file has.  Raises click.BadParameter or ProgramUnfit."""
    if path is None:
        return None
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_SIZE + 1)
    except OSError as error:
        raise click.BadParameter(f"cannot read {path!r}: {error.strerror}") from None
    if len(data) > MAX_SIZE:
        raise click.BadParameter(f"{path!r} is larger than {MAX_SIZE} bytes")
    return AllowedSigners(data, os.environ)


def _allowed(help: str) -> Callable[[F], F]:
    return click.option(
        "--allowed-signers", "signers", metavar="FILE", callback=_read, shell_complete=completing.files, help=help
    )


signers_option = _allowed("Believe only versions that are signed by a key of FILE, as ssh-keygen(1) describes it.")
signers_anew_option = _allowed("Whose signatures count, beside those of KEYFILE, before a version is signed anew.")


def signer(path: str | None, trusted: AllowedSigners | None = None) -> Signer | None:
    """Return what signs, having tried it; `trusted` as of Signer.

    Raises click.UsageError, ProgramUnfit or CannotSign.
    """
    if path is None and trusted is not None:
        raise click.UsageError("--allowed-signers is for --sign KEYFILE")
    return None if path is None else Signer(path, os.environ, trusted)
