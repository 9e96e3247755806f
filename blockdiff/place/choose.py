"""Which kind of place a path means."""

import functools
import os
from typing import TYPE_CHECKING

from blockdiff.place.base import PLAIN, Access, Place
from blockdiff.place.folder import Folder

if TYPE_CHECKING:
    from blockdiff.place.s3 import Store

STORE = "s3://"


def at(path: str, access: Access = PLAIN) -> Place:
    """Return the place of this path; whether it exists is not looked at.

    Raises StoreRefused without settings for the store, or ProgramUnfit without the library for it.
    """
    place: Place = _store(path.rstrip("/"), access) if in_store(path) else Folder(path)
    if access.identities or access.recipients or access.unopened:
        from blockdiff.place.sealed import SealedPlace  # what it needs takes a while to load

        return SealedPlace(place, access.identities, access.recipients)
    return place


def split(name: str) -> tuple[str, str]:
    """Return the path of the place that a set is in, and the set's name there; that is "" if there is none."""
    folder, base = os.path.split(name)
    if in_store(name) and not in_store(folder):
        return name, ""
    return folder or ".", "" if base in (".", "..") else base


def is_place(path: str, access: Access = PLAIN) -> bool:
    """Return whether a path is that of a folder, or what is like one, which may have sets in it.

    In a store, what is also the name of a set is that set, unless it ends with a "/".
    """
    if not in_store(path):
        return os.path.isdir(path)
    folder, base = split(path.rstrip("/"))
    return path.endswith("/") or not base or _store(folder, access).is_folder(base)


def listed(name: str, access: Access = PLAIN) -> tuple[str, ...] | None:
    """Return the names of a set's files, if `is_place` has just listed them; None: not known."""
    if not in_store(name) or access.identities:
        return None
    folder, base = split(name)
    return tuple(sorted(_store(folder, access).listed(f"{base}."))) or None


def in_store(path: str) -> bool:
    """Return whether a path is that of an object store, or of something in it."""
    return path.startswith(STORE)


def absolute(name: str) -> str:
    """Return a path of a set that means the same from everywhere, and is the same for all spellings in a store."""
    if not in_store(name):
        return os.path.abspath(name)
    folder, base = split(name)
    return f"{folder}/{base}" if base else name


@functools.cache
def _store(path: str, access: Access) -> "Store":
    """Return a store; one of each is enough, since its connections are kept."""
    from blockdiff.place.s3 import Store  # what it needs takes a while to load

    return Store(path, access)
