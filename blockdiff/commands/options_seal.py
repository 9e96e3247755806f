"""The options of seals: for whom files are sealed, and the keys that open them."""

from collections.abc import Sequence

import click

from blockdiff.commands import completing
from blockdiff.sealing import keys

recipient_option = click.option(
    "--recipient", "recipients", metavar="KEY", multiple=True,
    help="Seal the copy for this public key of age; may be repeated.",
)  # fmt: skip
recipients_file_option = click.option(
    "--recipients-file", "recipients_files", metavar="FILE", multiple=True, shell_complete=completing.files,
    help="Seal it for the public keys in FILE.",
)  # fmt: skip


def _identities(
    context: click.Context, parameter: click.Parameter, paths: Sequence[str]
) -> tuple[keys.Identity, ...]:
    try:
        return tuple(keys.identities(paths))
    except keys.BadKey as error:
        raise click.BadParameter(str(error)) from None


identity_option = click.option(
    "--identity", "identities", metavar="FILE", multiple=True, callback=_identities, shell_complete=completing.files,
    help="Open sealed files with the private keys in FILE, as age-keygen writes it.",
)  # fmt: skip


def recipients(words: Sequence[str], paths: Sequence[str]) -> tuple[keys.Recipient, ...]:
    """Return the keys for whom files are sealed.  Raises click.UsageError or StoreUnreadable."""
    try:
        return tuple(keys.recipients(words, paths))
    except keys.BadKey as error:
        raise click.UsageError(f"--recipient: {error}") from None
