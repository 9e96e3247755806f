"""The NAMEs of sets that operands stand for, one that is a folder for all sets in it."""

from collections.abc import Sequence

import click

from blockdiff.commands import joblist
from blockdiff.commands.options_store import NOW, Reading
from blockdiff.errors import StoreRefused, StoreUnreadable


def expand(operands: Sequence[str], list_path: str | None, reading: Reading = NOW) -> list[str]:
    """Return each NAME once, also those of a list if one is given.

    What in a store may be a NAME, and cannot be looked at, is one: whoever uses it then learns why, for it alone.
    Raises as joblist.read, click.UsageError if there is no set, and NoSuchSet, StoreUnreadable or StoreRefused.
    """
    from blockdiff.place import choose
    from blockdiff.sets import catalogue

    found: list[str] = []
    all_given = given(operands, list_path)
    access = reading.access(all_given)
    for operand in all_given:
        try:
            found += catalogue.sets(operand, access) if choose.is_place(operand, access) else [operand]
        except (StoreUnreadable, StoreRefused):
            if operand.endswith("/") or not choose.in_store(operand):
                raise
            found.append(operand)
    if not found:
        raise click.UsageError(f"there is no set in {' '.join(operands)}")
    return list(dict.fromkeys(found))


def given(operands: Sequence[str], list_path: str | None) -> list[str]:
    """Return the NAMEs and folders as they were given, and the NAMEs of a list.

    Raises as joblist.read, and click.UsageError if there is none.
    """
    found = joblist.names(operands, list_path)
    if not found:
        raise click.UsageError("no set: give NAME, a FOLDER with sets, or --list")
    return found
