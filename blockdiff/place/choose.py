"""Which kind of place a path means."""

import os

from blockdiff.place.base import Place
from blockdiff.place.folder import Folder

STORE = "s3://"


def at(path: str) -> Place:
    """Return the place of this path; whether it exists is not looked at."""
    return Folder(path)


def is_place(path: str) -> bool:
    """Return whether a path is that of a folder, which may have sets in it."""
    return os.path.isdir(path)
